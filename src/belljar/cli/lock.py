"""`belljar lock`."""

from pathlib import Path

import click

from belljar.cli.talk import directory_argument, format_option, progress, show


@click.command()
@directory_argument
@click.option(
    "--check",
    is_flag=True,
    help="Only say whether belljar.lock fits the recipe (exit status 3: it does not).",
)
@format_option
def command(directory: Path, check: bool, form: str) -> None:
    """Resolve the sources and tools of the recipe in DIR to exact files and write belljar.lock.

    Uses apt, pip and npm as this machine is configured, in private state directories, without root.

    \b
    Examples:
      belljar lock
      belljar lock --check examples/hello
    """
    from belljar.home import Home
    from belljar.recipe import load, lock, require_fresh

    found = load(directory)
    path = directory / lock.FILE
    if check:
        require_fresh(found, lock.read(path))
        show(form, [f"{path}: fits the recipe"], {"lock": str(path), "fresh": True})
        return
    from belljar.recipe.resolve import lock as resolve

    with progress() as shown:
        made = resolve(found, Home.from_environment(), progress=shown)
    lock.write(path, made)
    count = len(made.environment) + sum(map(len, made.sources.values()))
    show(form, [f"{path}: {count} files locked"], {"lock": str(path), "files": count})
