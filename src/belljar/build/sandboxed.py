"""The sandbox that a build script runs in: values only, nothing is started here."""

import os
from collections.abc import Mapping
from pathlib import Path

from belljar.build.environment import Environment, visible
from belljar.build.output import EPOCH
from belljar.placeholder import PLACEHOLDER
from belljar.recipe import Recipe
from belljar.sandbox import Bind, Devices, Directory, File, Operation, Proc, Sandbox, Symlink, Tmpfs, machine
from belljar.store import StoreName

BUILD = "/build"
"""Where a build sees its sources; outside the placeholder, so that debug information does not hold it."""
SCRIPT = "/run/belljar/build.sh"
TOOLCHAIN = "/run/belljar/toolchain"
"""Where a build sees the wrappers of a [toolchain]."""
SHELL = "/bin/sh"


def prefix_of(name: StoreName, store_root: str = PLACEHOLDER) -> str:
    """Return the path that the build sees as its prefix: below the placeholder store root, or another."""
    return f"{store_root}/{name}"


def variables(
    recipe: Recipe, name: StoreName, arch: str, jobs: int, *, store_root: str = PLACEHOLDER
) -> dict[str, str]:
    """Return the whole environment of a build script.

    JOBS is the one value that may differ between machines; it is not an input.
    """
    fixed = {
        "HOME": "/home/build",
        "JOBS": str(jobs),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/bin:/usr/sbin",
        "PERL_HASH_SEED": "0",
        "PREFIX": prefix_of(name, store_root),
        "PYTHONHASHSEED": "0",
        "SHELL": SHELL,
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "TERM": "dumb",
        "TMPDIR": "/tmp",
        "TZ": "UTC",
        "USER": "build",
    }
    if recipe.toolchain is not None:
        from belljar.build.staged import stage_of

        stage = stage_of(recipe, fixed["PREFIX"], arch)
        assert stage is not None
        fixed |= {**stage.variables, "PATH": f"{stage.bin}:{fixed['PATH']}"}
    elif recipe.portability.glibc is not None:
        fixed["BELLJAR_GLIBC"] = str(recipe.portability.glibc)
        fixed["BELLJAR_TARGET"] = f"{arch}-linux-gnu.{recipe.portability.glibc}"
    return fixed | dict(recipe.build.env)


def sandbox_of(
    environment: Environment | None,
    *,
    build: Path,
    output: Path,
    name: StoreName,
    env: Mapping[str, str],
    script: str,
    cwd: str,
    store_root: str = PLACEHOLDER,
    toolchain: Path | None = None,
) -> Sandbox:
    """Return the sandbox: the environment (None: not made yet) read-only, `build` and `output` writable.

    `toolchain` are the wrappers of a recipe that wants them.
    `output` is mounted below `store_root`; what names it in `env` must say the same.
    """
    operations: tuple[Operation, ...] = (
        *(() if environment is None else root_of(environment)),
        Proc(),
        *machine.covers(),
        Devices(),
        Directory(target="/sys"),
        Tmpfs(target="/tmp"),
        Tmpfs(target="/home/build", mode=0o700),
        File(target=SCRIPT, text=script),
        *([Bind(source=os.fspath(toolchain), target=TOOLCHAIN)] if toolchain is not None else []),
        Bind(source=os.fspath(build), target=BUILD, writable=True),
        Bind(source=os.fspath(output), target=prefix_of(name, store_root), writable=True),
    )
    return Sandbox(operations=operations, env=env, cwd=cwd)


def root_of(environment: Environment) -> tuple[Operation, ...]:
    """Return the operations that show an environment as the root, read-only."""
    return tuple(
        Symlink(target=f"/{entry}", link=link)
        if link
        else Bind(source=os.fspath(environment.path / entry), target=f"/{entry}")
        for entry, link in visible(environment)
    )
