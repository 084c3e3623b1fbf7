"""The compiler of a recipe's [toolchain]: the wrappers of `belljar stage`, as the sandbox shows them.

zig is among the locked packages of the environment; the wrappers follow from the recipe and are shown
read-only. What they compile is held against [portability] like any output. With `seal = true` the output
is sealed as soon as the script has ended, with the loader and libc of the environment.
"""

from pathlib import Path

from belljar.build.environment import Environment
from belljar.build.sandboxed import TOOLCHAIN
from belljar.errors import InputError, UsageError
from belljar.recipe import Recipe
from belljar.stage import Stage, of_zig, plan, versions, write
from belljar.types import Arch, Progress

_ZIG = "opt/ziglang/ziglang/zig"


def stage_of(recipe: Recipe, prefix: str, arch: str) -> Stage | None:
    """Return the stage of a recipe for a prefix, or None without a [toolchain]."""
    if recipe.toolchain is None:
        return None
    toolchain = of_zig(
        Path("/", _ZIG),
        recipe.toolchain.glibc,
        Arch(arch),
        version=recipe.toolchain.zig,
        cache='"$TMPDIR/zig"',
    )
    return plan(prefix, toolchain, Path(TOOLCHAIN), machine=Arch(arch), directory=Path(TOOLCHAIN))


def put(stage: Stage | None, environment: Environment, place: Path) -> Path | None:
    """Write a stage's wrappers to `place` and return it; None: there is none.

    Raises InputError when the environment's zig does not offer that glibc.
    """
    if stage is None:
        return None
    toolchain = stage.toolchain
    try:
        versions.require(
            toolchain.glibc, versions.offered(environment.path / _ZIG), f"zig {toolchain.version}"
        )
    except UsageError as error:
        raise InputError(f"toolchain.glibc: {error.message}", hint=error.hint) from error
    write(stage, place)
    return place


def seal(recipe: Recipe, output: Path, environment: Environment, progress: Progress) -> None:
    """Let the programs of an output carry the environment's libc, if the recipe wants that.

    Raises InputError where something in it cannot be sealed.
    """
    if recipe.toolchain is None or not recipe.toolchain.seal:
        return
    from belljar.seal import doing
    from belljar.seal.plan import Options
    from belljar.seal.plan import plan as plan_seal

    doing.seal(plan_seal(output, Options(root=environment.path), progress=progress), progress=progress)
