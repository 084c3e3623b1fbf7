"""The program `belljar`."""

import sys


def main() -> None:
    """Run the command line; `--version` answers before anything is imported."""
    if sys.argv[1:] == ["--version"]:
        from belljar import __version__

        print(f"belljar {__version__}")
        return
    from belljar.cli.entry import main as run

    run()


if __name__ == "__main__":
    main()
