"""`belljar audit`."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from belljar.cli.talk import progress, show
from belljar.errors import UsageError

if TYPE_CHECKING:
    from belljar.audit import Finding, Policy, Report

Command = TypeVar("Command", bound=Callable[..., Any])
_FORMS = ("text", "json", "sarif", "github", "gitlab", "azure")


def _demands(command: Command) -> Command:
    """Add the options that say what the tree must meet."""
    for option in reversed(
        (
            click.option(
                "--policy", metavar="P", help="A built-in policy, such as manylinux_2_28, or a file."
            ),
            click.option(
                "--glibc", "--target-glibc", "glibc", metavar="V", help="The newest glibc to be needed: 2.17."
            ),
            click.option(
                "--isa", metavar="L", help="The CPU level to be needed: x86-64, x86-64-v3, baseline."
            ),
            click.option(
                "--build-path", "build_paths", metavar="P", multiple=True, help="A path that none may name."
            ),
            click.option(
                "--baseline",
                metavar="FILE",
                type=click.Path(path_type=Path),
                help="Fail on what is new only.",
            ),
        )
    ):
        command = option(command)
    return command


def _closeness(command: Command) -> Command:
    """Add the options that say how closely to look."""
    for option in reversed(
        (
            click.option(
                "--isa-full", "is_full", is_flag=True, help="Decode all code, not what surely runs."
            ),
            click.option("--probe", metavar="CMD", help="Run a command on old CPUs (qemu-user)."),
            click.option(
                "--traced",
                "runs",
                metavar="CMD",
                multiple=True,
                help="Run a command of the sealed PATH, see what it opens.",
            ),
            click.option("--no-isa", is_flag=True, help="Decode no code."),
            click.option(
                "--ties/--no-ties", default=True, help="Look for paths of the builder in every file."
            ),
            click.option("--closure", is_flag=True, help="Resolve the libraries of every program."),
            click.option(
                "--root",
                metavar="DIR",
                type=click.Path(path_type=Path, exists=True, file_okay=False),
                help="The system to resolve them in; implies --closure.",
            ),
            click.option(
                "--jobs", metavar="N", type=click.IntRange(min=1), help="How many processes to use."
            ),
        )
    ):
        command = option(command)
    return command


def _outputs(command: Command) -> Command:
    """Add the options that say what is told, and where."""
    file = click.Path(path_type=Path, dir_okay=False)
    for option in reversed(
        (
            click.option("--why", is_flag=True, help="Show all: files, causes, remedies, evidence."),
            click.option("--html", metavar="FILE", type=file, help="Write one page with everything."),
            click.option("--sarif", metavar="FILE", type=file, help="Write SARIF, whatever is printed."),
            click.option("--graph", metavar="FILE", type=file, help="Draw needed libraries: .svg or .dot."),
            click.option("--write-baseline", metavar="FILE", type=file, help="Keep what is found as known."),
            click.option(
                "--format",
                "form",
                type=click.Choice(_FORMS),
                default="text",
                show_default=True,
                help="How to print.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, allow_dash=True),
)
@_demands
@_closeness
@_outputs
def command(paths: tuple[Path, ...], **options: Any) -> int:
    """Say of every program and library in PATH what ties it to a machine.

    PATH is a file, a directory, a store path, or an archive: wheel, zip, tar (gz, xz, zst), .deb, .a,
    also within each other; - is standard input. Said are the oldest glibc, libstdc++ and kernel it
    runs on with the symbols that decide it, the CPU it certainly needs, the libraries, its loader and
    search paths, paths of the builder that are left in it. Exit status 1 when what is declared
    (--policy, --glibc, --isa; for a store path: by its recipe) does not hold.

    \b
    Examples:
      belljar audit ./result
      belljar audit --target-glibc 2.17 dist/libfoo.so
      belljar audit --policy manylinux_2_28 dist/*.whl
      belljar audit --format json /usr/bin/gdb | jq .floors
      belljar audit --closure --html audit.html ./result
      belljar audit --policy sealed --traced 'bin/git --version' ./prefix
    """
    from belljar.audit import Effort, audit, with_users

    effort = None if options["no_isa"] else Effort.FULL if options["is_full"] else Effort.LOAD
    with progress() as shown:
        report = audit(
            paths,
            policy=_policy(paths, options),
            progress=shown,
            effort=effort,
            root=options["root"] or (Path("/") if options["closure"] else None),
            ties=options["ties"],
            jobs=options["jobs"],
            stdin=sys.stdin.buffer,
        )
    if options["probe"] is not None:
        report = _probed(report, options["probe"], options["root"])
    for words in options["runs"]:
        report = _traced(report, paths, words)
    if options["why"] or options["html"] is not None or options["form"] == "json":
        report = with_users(report)
    new = _new(report, options["baseline"])
    _write(report, options)
    _print(report, new, options)
    return 1 if any(finding in new for finding in report.errors) else 0


def _probed(report: "Report", words: str, root: Path | None) -> "Report":
    """Return a report that also says how a command ran on old CPUs."""
    from belljar.audit.probe import probe
    from belljar.audit.traces import findings_of_probe

    probed = probe(_words("--probe", words), root=root)
    return replace(
        report, probe=probed, findings=(*report.findings, *findings_of_probe(probed, report.policy))
    )


def _traced(report: "Report", paths: tuple[Path, ...], words: str) -> "Report":
    """Return a report that also says what a command of the tree did with files of this machine."""
    from belljar.audit.run import excused
    from belljar.audit.traced import findings_of, traced

    if len(paths) != 1 or not paths[0].is_dir():
        raise UsageError("--traced: give one PATH, the directory of the sealed prefix")
    run = traced(_words("--traced", words), paths[0], report.policy)
    found = excused(findings_of(run, paths[0], report.policy), report.policy)
    return replace(report, traced=(*report.traced, run), findings=(*report.findings, *found))


def _words(option: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: {error}") from None


def _policy(paths: tuple[Path, ...], options: dict[str, Any]) -> "Policy":
    """Return the named policy, or what the recipe declared, with what the command line adds."""
    from belljar.audit import GlibcVersion, Policy, policies

    if options["policy"] is not None:
        base = policies.find(options["policy"])
    else:
        declared = _declared(paths)
        base = Policy.of(glibc=declared.get("glibc"), isa=declared.get("isa"))
    return replace(
        base,
        glibc=GlibcVersion.parse(options["glibc"]) if options["glibc"] else base.glibc,
        isa=options["isa"] or base.isa,
        build_paths=(*base.build_paths, *options["build_paths"]),
    )


def _declared(paths: tuple[Path, ...]) -> dict[str, Any]:
    """Return what the recipe of a store entry declared, when one entry is all that is audited."""
    from belljar.store import locate

    entry = locate(paths[0]) if len(paths) == 1 and str(paths[0]) != "-" else None
    return dict(entry[0].record(entry[1]).portability) if entry is not None else {}


def _new(report: "Report", baseline: Path | None) -> tuple["Finding", ...]:
    """Return the findings that a baseline does not know."""
    if baseline is None:
        return report.findings
    from belljar.report.baseline import read_baseline

    return read_baseline(baseline).new(report.findings, report.paths)


def _write(report: "Report", options: dict[str, Any]) -> None:
    """Write the files that were asked for."""
    from belljar.fsys import destination

    if options["write_baseline"] is not None:
        from belljar.report.baseline import write_baseline

        write_baseline(options["write_baseline"], report.findings, report.paths)
    if options["sarif"] is not None:
        destination(options["sarif"])(_sarif(report, options["baseline"]))
    if options["html"] is None and options["graph"] is None:
        return
    from belljar.report.graph import graph_of, to_dot

    graph = graph_of(report, missing=report.missing)
    if options["html"] is not None:
        from belljar.report.html import to_html

        destination(options["html"])(to_html(report, graph=graph))
    if options["graph"] is not None:
        from belljar.report.svg import draw

        is_dot = options["graph"].suffix in (".dot", ".gv")
        destination(options["graph"])(to_dot(graph) if is_dot else draw(graph).svg)


def _print(report: "Report", new: tuple["Finding", ...], options: dict[str, Any]) -> None:
    """Print the report in the form that was asked for; the forms of CI services tell what is new."""
    form = options["form"]
    if form in ("text", "json"):
        from belljar.report.audit_text import render

        shown = report if options["baseline"] is None else replace(report, findings=new)
        show(form, render(shown, why=options["why"]), shown.to_json() if form == "json" else {})
    elif form == "sarif":
        click.echo(_sarif(report, options["baseline"]), nl=False)
    else:
        from belljar.report.annotations import Service, annotations

        if form != Service.GITLAB:  # which wants a file of its own; the others look for lines in the log
            _print(report, new, options | {"form": "text"})
        for line in annotations(Service(form), new, report.paths):
            click.echo(line)


def _sarif(report: "Report", baseline: Path | None) -> str:
    from belljar.report.baseline import read_baseline
    from belljar.report.sarif import to_sarif

    known = read_baseline(baseline) if baseline is not None else None
    log = to_sarif(report.findings, paths=report.paths, baseline=known, base=str(Path.cwd()))
    return json.dumps(log, indent=2) + "\n"
