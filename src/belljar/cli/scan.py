"""`belljar scan`."""

from pathlib import Path

import click

from belljar.cli.talk import format_option, show


@click.command()
@click.argument("tree", type=click.Path(path_type=Path, exists=True))
@click.option("--summary", is_flag=True, help="Print counts instead of every reference.")
@format_option
def command(tree: Path, summary: bool, form: str) -> int:
    """List every reference in TREE that relocation rewrites: file, offset, kind.

    TREE is a store path, an installed directory's store path, or any tree that holds the
    placeholder. Exit status 1 when something in it cannot be rewritten.

    \b
    Examples:
      belljar scan ./result
      belljar scan --format json ./result | jq '.table.files | keys'
    """
    from belljar.relocate import scan
    from belljar.store import locate

    entry = locate(tree)
    unsupported: tuple[str, ...] = ()
    if entry is not None:
        table = entry[0].table(entry[1])
    else:
        found = scan(tree)
        table = found.table
        unsupported = tuple(f"{item.path}: offset {item.offset}: {item.what}" for item in found.unsupported)
    files = len(table.files) + len(table.links)
    lines = [f"{len(table)} references in {files} files and links"]
    if not summary:
        rows = [(path, ref, "file") for path, refs in table.files.items() for ref in refs]
        rows += [(path, ref, "link") for path, refs in table.links.items() for ref in refs]
        lines = [f"{path}\t{ref.offset}\t{kind}" for path, ref, kind in sorted(rows)] + lines
    lines += [f"cannot be rewritten: {item}" for item in unsupported]
    show(form, lines, {"table": table.to_json(), "unsupported": list(unsupported)})
    return 1 if unsupported else 0
