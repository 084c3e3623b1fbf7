"""`belljar store`."""

from pathlib import Path

import click

from belljar.cli.talk import format_option, place, show
from belljar.home import Home
from belljar.store import Store


@click.group(no_args_is_help=True)
def command() -> None:
    """Look at the store and check it."""


@command.command("list")
@format_option
def listing(form: str) -> None:
    """List all artifacts: package, version, size, content hash, store name, how a proof of relocation ended.

    \b
    Examples:
      belljar store list
      belljar store list --format json | jq -r '.entries[].name'
    """
    store = _store()
    records = [store.record(name) for name in store.names()]
    lines = [
        f"{record.name.package:<20} {record.name.version:<12} {record.size:>12,}"
        f"  {record.content[:12]}  {record.name}"
        + (f"  {record.proof.get('verdict')}" if record.proof is not None else "")
        for record in records
    ]
    show(form, lines or ["the store is empty"], {"entries": [record.to_json() for record in records]})


@command.command("path")
@click.argument("artifact", required=False)
@format_option
def path(artifact: str | None, form: str) -> None:
    """Print where ARTIFACT lies, or where the store does.

    \b
    Examples:
      cd "$(belljar store path hello)"
    """
    store = _store()
    found = store.root if artifact is None else store.path(store.find(artifact))
    show(form, [str(found)], {"path": str(found)})


@command.command("verify")
@click.argument("artifacts", metavar="[ARTIFACT]...", nargs=-1)
@click.option(
    "--at",
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Check what is installed in DIR instead of the store.",
)
@format_option
def verify(artifacts: tuple[str, ...], directory: str | None, form: str) -> int:
    """Read artifacts whole and compare them with their content hashes; all of them without ARTIFACT.

    Exit status 6 when one differs.

    \b
    Examples:
      belljar store verify
      belljar store verify --at ~/apps/hello
    """
    store = _store(directory)
    names = [store.find(artifact) for artifact in artifacts] or list(store.names())
    lines, results = [], []
    for name in names:
        damages = store.verify(name)
        lines.append(f"{name}: {'sound' if not damages else 'DAMAGED'}")
        lines += [f"  {damage.path}: {damage.what}".replace("  : ", "  ") for damage in damages]
        found = [{"path": damage.path, "what": damage.what} for damage in damages]
        results.append({"name": str(name), "sound": not damages, "damage": found})
    show(form, lines or ["nothing to check"], {"entries": results})
    return 0 if all(result["sound"] for result in results) else 6


def _store(directory: str | None = None) -> Store:
    return Store(directory=place(Path(directory)) if directory else Home.from_environment().store)
