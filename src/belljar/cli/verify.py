"""`belljar verify`."""

from pathlib import Path

import click

from belljar.cli.talk import format_option, progress, show
from belljar.errors import InputError, UsageError
from belljar.home import Home


class _Verify(click.Command):
    """Takes `--on A B C` up to the `--` that begins the command, which may hold options of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        before, command = args, []
        if "--" in args:
            place = args.index("--")
            before, command = args[:place], args[place:]
        spread: list[str] = []
        roots = False
        for word in before:
            if roots and not word.startswith("-"):
                spread += ["--on", word] if spread[-1] != "--on" else [word]
                continue
            roots = word == "--on"
            spread.append(word)
        return super().parse_args(ctx, spread + command)


@click.command(cls=_Verify)
@click.argument("tree", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--on",
    "on",
    metavar="ROOT...",
    multiple=True,
    help="Roots to run on: glibc-2.17, debian:SUITE, musl, empty, yours.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="Seconds for each root.",
)
@click.option(
    "--env", "variables", metavar="NAME=VALUE", multiple=True, help="A variable that the command gets."
)
@click.argument("words", metavar="[-- CMD...]", nargs=-1)
@format_option
def command(
    tree: Path,
    on: tuple[str, ...],
    timeout: float,
    variables: tuple[str, ...],
    words: tuple[str, ...],
    form: str,
) -> int:
    """Run CMD of TREE on real systems and print how it went on each.

    Each ROOT is a whole root filesystem; the command sees it and TREE, read-only, and nothing of this
    machine, without network. A relative path in CMD is relative to TREE. A built-in root that is not
    there yet is added first. When TREE is the directory of a recipe that was built, its artifact is
    verified, and its [verify] says where and what unless you do. Exit status 1 when CMD did not end
    with exit status 0 on every root.

    \b
    Examples:
      belljar verify ./result --on glibc-2.17 debian:bullseye -- bin/hello
      belljar verify examples/hello
      belljar verify dist --on mine --format json -- bin/tool --version
    """
    from belljar.report.verify_text import render
    from belljar.verify import roots, verify

    home = Home.from_environment()
    tree, on, words = _with_recipe(tree, on, words)
    if not on or not words:
        what = "command" if on else "root"
        raise UsageError(f"verify: no {what} is named", hint="belljar verify TREE --on ROOT... -- CMD...")
    env = dict(_variable(item) for item in variables)
    with progress() as shown:
        chosen = [roots.obtain(name, home, progress=shown) for name in on]
        matrix = verify(tree, words, chosen, env=env, timeout=timeout, progress=shown)
    show(form, render(matrix), matrix.to_json())
    return 0 if matrix.passed else 1


def _with_recipe(
    tree: Path, on: tuple[str, ...], words: tuple[str, ...]
) -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
    """Return what to verify, where and how; a recipe's directory stands for its artifact."""
    from belljar.recipe import recipe as recipes

    if not (tree / recipes.FILE).is_file():
        return tree, on, words
    from belljar.build.foresight import foresee

    plan = foresee(tree)
    if not plan.cached:
        raise InputError(f"{tree}: is a recipe that was not built yet", hint=f"run `belljar build {tree}`")
    declared = recipes.load(tree).verify
    if declared is None:
        return plan.path, on, words
    return plan.path, on or declared.on, words or declared.run


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"--env {text}: not of the form NAME=VALUE")
    return name, value
