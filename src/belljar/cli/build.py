"""`belljar build`."""

from pathlib import Path

import click

from belljar.build import GuaranteeError, Options, build
from belljar.cli.talk import directory_argument, format_option, progress, show
from belljar.errors import InputError


@click.command()
@directory_argument
@click.option(
    "--out-link",
    type=click.Path(path_type=Path),
    default=Path("result"),
    show_default=True,
    help="A symbolic link to the artifact, made in the current directory.",
)
@click.option("--no-link", is_flag=True, help="Make no link.")
@click.option("--offline", is_flag=True, help="Use no network: everything must have been fetched.")
@click.option(
    "--keep-failed", is_flag=True, help="Keep the directory of a failed build and say how to enter it."
)
@click.option(
    "--jobs", "-j", type=click.IntRange(1), help="Parallel jobs ($JOBS in the script); default: all CPUs."
)
@click.option("--dry-run", is_flag=True, help="Say what would be built, and in which sandbox; do nothing.")
@click.option(
    "--prove-relocation",
    "prove",
    is_flag=True,
    help="Build again under another prefix, and compare: exit status 1 unless the output can be moved.",
)
@click.option(
    "--real-clock", is_flag=True, help="Leave the time to the machine; the artifact is another one then."
)
@format_option
def command(
    directory: Path,
    out_link: Path,
    no_link: bool,
    offline: bool,
    keep_failed: bool,
    jobs: int | None,
    dry_run: bool,
    prove: bool,
    real_clock: bool,
    form: str,
) -> int:
    """Build the recipe in DIR (belljar.toml) and put the result into the store.

    Locks and fetches first where that was not done. The same inputs are built once: after that the
    store has it. The result must meet the recipe's [portability], or nothing is stored.

    \b
    Examples:
      belljar build                        build the recipe here; ./result links to it
      belljar build examples/hello -j4
      belljar build --dry-run              what would happen, and the whole sandbox
      belljar build --keep-failed          look into a build that fails
      belljar build --prove-relocation     show that no reference to the prefix was missed
    """
    options = Options(
        jobs=jobs or 0, offline=offline, keep_failed=keep_failed, prove=prove, real_clock=real_clock
    )
    if dry_run:
        _foresee(directory, options, form)
        return 0
    if not no_link:
        _check_link(out_link)
    try:
        with progress() as shown:
            artifact = build(directory, options=options, progress=shown)
    except GuaranteeError as error:
        from belljar.report import refusal_text

        show(form, refusal_text.render(error), refusal_text.to_json(error))
        raise
    if not no_link:
        _make_link(out_link, artifact.path)
    from belljar.report.build_text import render, to_json
    from belljar.report.proof_text import is_proved

    show(form, render(artifact), to_json(artifact))
    return 0 if not prove or is_proved(artifact.record.proof) else 1


def _foresee(directory: Path, options: Options, form: str) -> None:
    from belljar.build.foresight import foresee

    plan = foresee(directory, options=options)
    show(form, plan.describe(), plan.to_json())


def _check_link(link: Path) -> None:
    if link.exists() and not link.is_symlink():
        raise InputError(
            f"{link}: exists and is not a symbolic link", hint="name another with --out-link, or --no-link"
        )
    if not link.absolute().parent.is_dir():
        raise InputError(f"{link}: there is no directory {link.absolute().parent}")


def _make_link(link: Path, target: Path) -> None:
    """Point the link at the artifact in one step, so that no reader finds it missing."""
    import os
    import secrets

    if link.is_symlink() and os.readlink(link) == os.fspath(target):
        return
    fresh = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    fresh.symlink_to(target)
    fresh.replace(link)
