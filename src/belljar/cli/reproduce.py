"""`belljar reproduce`, and what it shares with `belljar run --reproduce`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from belljar.cli.talk import format_option, progress, show
from belljar.cli.terminal import printable
from belljar.errors import UsageError

if TYPE_CHECKING:
    from belljar.hermetic.request import Request
    from belljar.reproduce import Options, Result


class _WithCommand(click.Command):
    """A command whose words after `--` are a command; those before may then lack their argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.params["command_words"] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- CMD...]"]


@click.command(cls=_WithCommand)
@click.argument(
    "directory",
    metavar="[DIR]",
    default=".",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
)
@click.option("--vary", metavar="NAME", multiple=True, help="Vary this only; may be given several times.")
@click.option("--dont-vary", "dont_vary", metavar="NAME", multiple=True, help="Do not vary this.")
@click.option("--env", "variables", metavar="NAME[=VALUE]", multiple=True, help="Vary this variable, too.")
@click.option("--list", "listed", is_flag=True, help="List the influences and their values, and stop.")
@click.option("--only", metavar="PATTERN", multiple=True, help="Compare only what is like PATTERN (`*.so`).")
@click.option("--ignore", metavar="PATTERN", multiple=True, help="Do not compare what is like PATTERN.")
@click.option("--all", "everything", is_flag=True, help="Compare what build tools write for themselves, too.")
@click.option(
    "--metadata",
    type=click.Choice(["mode", "mtime", "links", "xattr"]),
    multiple=True,
    help="Compare this of files, too: what archives keep and artifacts of belljar do not have.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="What is an input by convention (SOURCE_DATE_EPOCH, a recipe's path) counts as a cause.",
)
@click.option(
    "--builds", type=click.IntRange(2), default=60, show_default=True, help="How many builds at most."
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Builds that must show no difference; more find what differs only sometimes, or cancels out.",
)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep both trees in this new directory.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as a page.")
@click.option("--json", "is_json", is_flag=True, help="The same as --format json.")
@click.option("--profile", metavar="P", help="Without a recipe: the build tool, as for `belljar run`.")
@click.option("--unlocked", is_flag=True, help="Without a recipe: require no lock file.")
@click.option("--tools", metavar="DIR", multiple=True, help="Without a recipe: tools outside /usr.")
@click.option("--ro", "read", metavar="PATH", multiple=True, help="Without a recipe: show this, read-only.")
@click.option("--allow-env", "allow_env", metavar="NAME", multiple=True, help="Without a recipe: let it in.")
@click.option(
    "--system",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default="/",
    help="Without a recipe: take /usr from this root.",
)
@click.option("--offline", is_flag=True, help="Use no network: everything must have been fetched.")
@click.option("--dry-run", is_flag=True, help="Say what would be built and varied; build nothing.")
@format_option
def command(directory: Path, *, listed: bool, form: str, is_json: bool, **asked: Any) -> int:
    """Build DIR again under varied conditions, and name what makes a difference.

    DIR holds a recipe (belljar.toml), or a project that `belljar run` knows, or any directory with CMD to
    build it. It is built as usual and with everything varied: the environment, user, host, directory, time
    of day, locale, CPU count, order of directories and more (--list). Where the two differ, a search finds
    the influences behind it in few builds. Exit status: 0 reproducible, 1 not.

    \b
    Examples:
      belljar reproduce                            the recipe or project here
      belljar reproduce --only '*.so' -- make lib
      belljar reproduce --dont-vary environment --dont-vary jobs
      belljar reproduce --vary clock --vary host --keep both --html report.html
      belljar reproduce --env CFLAGS=-O3           does it depend on that?
    """
    form = "json" if is_json else form
    if listed:
        from belljar.report import reproduce_text

        show(form, reproduce_text.influences(), {"influences": reproduce_text.influences_json()})
        return 0
    options = _options_of(asked)
    if asked["dry_run"]:
        return _foresee(directory, options, asked, form)
    what = _asked_for(directory, asked)
    return carry_out(what, options, form, html=asked["html"], strict=asked["strict"])


def _options_of(asked: dict[str, Any]) -> "Options":
    """Return what the command line says of what is to be varied."""
    from belljar.reproduce import Metadata, Options

    return Options(
        vary=asked["vary"],
        dont_vary=asked["dont_vary"],
        variables=tuple(map(_variable, asked["variables"])),
        most=asked["builds"],
        rounds=asked["rounds"],
        metadata=frozenset(map(Metadata, asked["metadata"])),
        only=asked["only"],
        ignored=asked["ignore"],
        everything=asked["everything"],
        offline=asked["offline"],
        keep=asked["keep"],
    )


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name.isidentifier() or not name.isascii():
        raise UsageError(f"--env {text}: {name!r} is not the name of a variable")
    if not sign:
        value = os.environ.get(name, "")
        if not value:
            raise UsageError(f"--env {name}: not set here", hint=f"give it a value: --env {name}=VALUE")
    return name, value


def _asked_for(directory: Path, asked: dict[str, Any]) -> "Path | Request":
    """Return the directory of a recipe, or the command that builds what is there."""
    is_recipe = (directory / "belljar.toml").exists() and not asked["command_words"]
    return directory if is_recipe else _request(directory, asked)


def _request(directory: Path, asked: dict[str, Any]) -> "Request":
    from belljar.cli.runner import user_profiles
    from belljar.hermetic.profile import available, choose
    from belljar.hermetic.request import Request
    from belljar.reproduce.subject import usual_command

    words, profiles = asked["command_words"], user_profiles()
    if not words:
        profile = choose(available(profiles), asked["profile"], directory, ("",))
        words = usual_command(profile.name, directory)
        asked["profile"] = profile.name
    return Request(
        command=words,
        project=directory,
        env=dict(os.environ),
        profile=asked["profile"],
        allow_env=asked["allow_env"],
        read=asked["read"],
        tools=asked["tools"],
        system=asked["system"],
        unlocked=asked["unlocked"],
        profiles=profiles,
    )


def of_run(request: "Request", report: Path | None) -> int:
    """Do what `belljar run --reproduce` asks for; `report` gets the JSON, `-`: standard output."""
    from belljar.reproduce import Options

    if request.fetch:
        hint = "fetch first, without it: belljar run --fetch -- true"
        raise UsageError("--reproduce: the fetch step is not done again for each build", hint=hint)
    to_stdout = report is not None and str(report) == "-"
    kept = None if to_stdout else report
    form = "json" if to_stdout else "text"
    return carry_out(request, Options(), form, report=kept)


def carry_out(
    what: "Path | Request",
    options: "Options",
    form: str,
    *,
    html: Path | None = None,
    report: Path | None = None,
    strict: bool = False,
) -> int:
    """Do it, say what was found, and return the exit status."""
    from belljar.report import reproduce_text
    from belljar.reproduce import reproduce

    _ = options.influences  # names that there are not are to be told before anything is done
    if html is not None and not html.absolute().parent.is_dir():
        raise UsageError(f"--html {html}: its directory does not exist")
    with progress() as shown:
        result = reproduce(what, options, progress=shown)
    show(form, reproduce_text.render(result), result.to_json())
    if html is not None:
        _write(html, result)
    if report is not None:
        _write_json(report, result)
    return 0 if result.is_same or (result.is_reproducible and not strict) else 1


def _write(html: Path, result: "Result") -> None:
    from belljar import fsys
    from belljar.report.reproduce_html import to_html

    fsys.destination(html)(to_html(result))
    click.echo(printable(f"belljar reproduce: wrote {html}"), err=True)


def _write_json(report: Path, result: "Result") -> None:
    import json

    from belljar import fsys

    fsys.destination(report)(json.dumps(result.to_json(), indent=2) + "\n")


def _foresee(directory: Path, options: "Options", asked: dict[str, Any], form: str) -> int:
    """Say what would be done."""
    names = [item.name for item in options.influences]
    asked_for = _asked_for(directory, asked)
    words = "the recipe's script" if isinstance(asked_for, Path) else " ".join(asked_for.command)
    what = f"{directory}: {words}"
    lines = [f"would build {what}", "  as usual, and with all of these varied:"]
    lines += [f"    {name}" for name in names]
    lines.append(f"  and, where that differs, some of them, in at most {options.most} builds")
    show(form, lines, {"subject": what, "influences": names, "builds": options.most})
    return 0
