"""`belljar scan`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from belljar.cli.talk import counted, format_option, progress, show

if TYPE_CHECKING:
    from belljar.relocate import Unsupported


@click.command()
@click.argument("tree", type=click.Path(path_type=Path, exists=True))
@click.option("--summary", is_flag=True, help="Print counts instead of every reference.")
@format_option
def command(tree: Path, summary: bool, form: str) -> int:
    """List every reference in TREE that relocation rewrites: file, offset, kind.

    TREE is a store path, an installed directory's store path, or any tree that holds the
    placeholder. The kind is `whole`, an encoding, or the bytes of the placeholder that a compiler
    put there. What cannot be rewritten is listed last, with its ELF section; exit status 1 then.

    \b
    Examples:
      belljar scan ./result
      belljar scan --format json ./result | jq '.table.files | keys'
    """
    from belljar.relocate import scan
    from belljar.store import locate

    entry = locate(tree)
    unsupported: tuple[Unsupported, ...] = ()
    if entry is not None:
        table = entry[0].table(entry[1])
    else:
        with progress() as shown:
            found = scan(tree, progress=shown)
        table = found.table
        unsupported = found.unsupported
    files = len(table.files) + len(table.links)
    places = "1 file or link" if files == 1 else f"{files:,} files and links"
    lines = [f"{counted(len(table), 'reference')} in {places}"]
    if not summary:
        rows = [(path, ref, "") for path, refs in table.files.items() for ref in refs]
        rows += [(path, ref, "link: ") for path, refs in table.links.items() for ref in refs]
        lines = [f"{path}\t{ref.offset}\t{side}{ref.describe()}" for path, ref, side in sorted(rows)] + lines
    lines += [f"cannot be rewritten: {item.describe()}" for item in unsupported]
    left = [asdict(item) for item in unsupported]
    show(form, lines, {"table": table.to_json(), "unsupported": left})
    return 1 if unsupported else 0
