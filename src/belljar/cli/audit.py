"""`belljar audit`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from belljar.cli.talk import format_option, progress, show

if TYPE_CHECKING:
    from belljar.audit import Policy


@click.command()
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, allow_dash=True),
)
@click.option("--policy", "name", metavar="P", help="A built-in policy, such as manylinux_2_28, or a file.")
@click.option(
    "--glibc",
    "--target-glibc",
    "glibc",
    metavar="V",
    help="The newest glibc that may be needed, such as 2.17.",
)
@click.option(
    "--isa", metavar="L", help="The instruction set that may be needed, such as x86-64, or baseline."
)
@click.option(
    "--build-path", metavar="P", multiple=True, help="A path of the builder that must not be left over."
)
@click.option("--isa-full", "is_full", is_flag=True, help="Decode all code, not only what certainly runs.")
@click.option("--no-isa", "is_none", is_flag=True, help="Decode no code at all.")
@click.option("--why", is_flag=True, help="Show everything: all files, causes, remedies, evidence.")
@click.option("--jobs", metavar="N", type=click.IntRange(min=1), help="How many processes work on it.")
@format_option
def command(
    paths: tuple[Path, ...],
    name: str | None,
    glibc: str | None,
    isa: str | None,
    build_path: tuple[str, ...],
    is_full: bool,
    is_none: bool,
    why: bool,
    jobs: int | None,
    form: str,
) -> int:
    """Say of every program and library in PATH what ties it to a machine.

    PATH is a file, a directory, a store path, or an archive: wheel, zip, tar (gz, xz, zst), .deb, .a,
    also within each other; - is standard input. Said are the oldest glibc, libstdc++ and kernel it
    runs on with the symbols that decide it, the libraries it needs, its loader, RPATH and RUNPATH,
    paths of the builder that are left in it. Exit status 1 when a guarantee (--policy, --glibc,
    --isa; for a store path: what its recipe declared) does not hold.

    \b
    Examples:
      belljar audit ./result
      belljar audit --target-glibc 2.17 dist/libfoo.so
      belljar audit --policy manylinux_2_28 dist/*.whl
      belljar audit --format json /usr/bin/gdb | jq .floors
    """
    from belljar.audit import Effort, audit
    from belljar.report.audit_text import render

    policy = _policy(paths, name, glibc=glibc, isa=isa, build_paths=build_path)
    effort = None if is_none else Effort.FULL if is_full else Effort.LOAD
    with progress() as shown:
        report = audit(paths, policy=policy, progress=shown, effort=effort, jobs=jobs, stdin=sys.stdin.buffer)
    show(form, render(report, why=why), report.to_json())
    return 0 if report.passed else 1


def _policy(
    paths: tuple[Path, ...],
    name: str | None,
    *,
    glibc: str | None,
    isa: str | None,
    build_paths: tuple[str, ...],
) -> "Policy":
    """Return the policy of that name, or what the recipe declared, with what the command line adds."""
    from belljar.audit import GlibcVersion, Policy, policies

    declared = _declared(paths) if name is None else {}
    base = (
        policies.find(name)
        if name is not None
        else Policy.of(glibc=declared.get("glibc"), isa=declared.get("isa"))
    )
    return replace(
        base,
        glibc=GlibcVersion.parse(glibc) if glibc else base.glibc,
        isa=isa or base.isa,
        build_paths=(*base.build_paths, *build_paths),
    )


def _declared(paths: tuple[Path, ...]) -> dict[str, Any]:
    """Return what the recipe of a store entry declared, when one entry is all that is audited."""
    from belljar.store import locate

    entry = locate(paths[0]) if len(paths) == 1 and str(paths[0]) != "-" else None
    return dict(entry[0].record(entry[1]).portability) if entry is not None else {}
