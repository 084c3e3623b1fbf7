"""The program `belljar`."""

import sys


def main() -> None:
    """Run the command line; `--version` answers before anything is imported."""
    if sys.argv[1:] == ["--version"]:
        from belljar import __version__

        print(f"belljar {__version__}")
        return
    from belljar.cli import entry

    entry.main()


if __name__ == "__main__":
    main()
