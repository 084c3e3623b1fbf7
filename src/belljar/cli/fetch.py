"""`belljar fetch`."""

from pathlib import Path

import click

from belljar.cli.talk import directory_argument, format_option, progress, show


@click.command()
@directory_argument
@click.option("--offline", is_flag=True, help="Download nothing; say what is missing (exit status 7).")
@format_option
def command(directory: Path, offline: bool, form: str) -> None:
    """Download what belljar.lock in DIR names, and check every file against its hash.

    After it, `belljar build --offline` needs no network. A file that does not match is not kept
    (exit status 6).

    \b
    Examples:
      belljar fetch
      belljar fetch --offline examples/hello
    """
    from belljar.home import Home
    from belljar.recipe import load, lock, require_fresh
    from belljar.recipe.fetch import fetch

    found = load(directory)
    locked = lock.read(directory / lock.FILE)
    require_fresh(found, locked)
    home = Home.from_environment()
    with progress() as shown:
        files = fetch(locked, home, offline=offline, progress=shown)
    paths = sorted({str(path) for path in files.values()})
    show(form, [f"{len(paths)} files in {home.downloads}, each with its locked hash"], {"files": paths})
