"""The program `belljar`."""

import sys


def main() -> None:
    """Run the command line; `--version` answers before anything is imported."""
    if sys.argv[1:] == ["--version"]:
        from belljar import __version__

        print(f"belljar {__version__}")
        return
    try:
        from belljar.cli.entry import main as run

        run()
    except KeyboardInterrupt:  # while it was loaded, or on its last steps
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
