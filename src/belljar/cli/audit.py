"""`belljar audit`."""

from pathlib import Path
from typing import Any

import click

from belljar.cli.talk import format_option, progress, show


@click.command()
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True)
)
@click.option("--glibc", metavar="V", help="The newest glibc that may be needed, such as 2.17.")
@click.option("--isa", metavar="L", help="The instruction set that may be needed, such as x86-64.")
@click.option(
    "--build-path", metavar="P", multiple=True, help="A path of the builder that must not be left over."
)
@format_option
def command(
    paths: tuple[Path, ...], glibc: str | None, isa: str | None, build_path: tuple[str, ...], form: str
) -> int:
    """Say of every program and library in PATH what ties it to a machine.

    The oldest glibc it runs on and the symbols that decide it, the libraries it needs, its loader,
    RPATH and RUNPATH, paths of the builder that are left in it. Exit status 1 when a guarantee
    (--glibc, --isa; for a store path: what its recipe declared) does not hold.

    \b
    Examples:
      belljar audit ./result
      belljar audit --glibc 2.17 dist/libfoo.so
      belljar audit --format json /usr/bin/gdb | jq .floor
    """
    from belljar.audit import GlibcVersion, Policy, audit
    from belljar.report.audit_text import render

    declared = _declared(paths) | {key: value for key, value in (("glibc", glibc), ("isa", isa)) if value}
    floor = declared.get("glibc")
    policy = Policy(
        glibc=GlibcVersion.parse(floor) if floor else None, isa=declared.get("isa"), build_paths=build_path
    )
    with progress() as shown:
        report = audit(paths, policy=policy, progress=shown)
    show(form, render(report), report.to_json())
    return 0 if report.passed else 1


def _declared(paths: tuple[Path, ...]) -> dict[str, Any]:
    """Return what the recipe of a store entry declared, when one entry is all that is audited."""
    from belljar.store import locate

    entry = locate(paths[0]) if len(paths) == 1 else None
    return dict(entry[0].record(entry[1]).portability) if entry is not None else {}
