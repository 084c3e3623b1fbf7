"""`belljar stage`."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from belljar.cli.talk import progress, show
from belljar.errors import BelljarError, InputError, UsageError
from belljar.home import Home
from belljar.types import Arch, Progress

if TYPE_CHECKING:
    from belljar.stage import Stage, Toolchain

_DEFAULT = "2.17"
_NUMBER = r"\d{1,3}\.\d{1,3}"
_ROOT = "root:"


@click.command()
@click.argument("prefix", required=False, type=click.Path(path_type=Path))
@click.option(
    "--glibc",
    metavar="VERSION|DIR|root:NAME",
    help=f"The oldest glibc that the output is to run on, or a sysroot. [default: {_DEFAULT}]",
)
@click.option(
    "--toolchain",
    type=click.Choice(["zig", "cc"]),
    help="Who compiles: zig, or this machine's gcc or clang. [default: zig; for a sysroot, cc]",
)
@click.option(
    "--arch",
    type=click.Choice([arch.value for arch in Arch]),
    help="Build for another architecture. [default: this machine's]",
)
@click.option("--zig", metavar="PATH", type=click.Path(path_type=Path), help="A zig of yours.")
@click.option("--cc", metavar="PROGRAM", help="The compiler of --toolchain cc. [default: gcc, else clang]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["shell", "json", "env"]),
    default="shell",
    show_default=True,
    help="Text to eval, JSON, or NAME=VALUE lines.",
)
@click.option(
    "--check", is_flag=True, help="Audit what was installed into PREFIX against the glibc that was asked for."
)
@click.option("--undo", is_flag=True, help="Print the text that takes a stage back.")
def command(prefix: Path | None, **options: Any) -> int:
    """Print shell text after which unmodified builds compile for a chosen glibc.

    It sets CC, CXX, AR, PKG_CONFIG_PATH and what else configure, make, CMake, Meson, cargo and go look for
    to wrapper programs, which lie in belljar's cache. PREFIX is where the build will install to: headers and
    libraries in it are found, and programs find its libraries from their own directory.

    Afterwards --check proves what was asked for on the output. Exit status 1: it does not hold.

    \b
    Examples:
      eval "$(belljar stage /opt/foo)"               then ./configure --prefix=/opt/foo && make install
      eval "$(belljar stage /opt/foo --glibc 2.28)"
      eval "$(belljar stage /opt/foo --toolchain cc --glibc root:glibc-2.17)"
      eval "$(belljar stage /opt/foo --arch aarch64)"  then ./configure --host=$BELLJAR_HOST
      belljar stage /opt/foo --check
      eval "$(belljar stage --undo)"
    """
    if options["undo"]:
        from belljar.stage import shell

        show("text", shell.leave(), {})
        return 0
    if prefix is None:
        raise UsageError("PREFIX: missing", hint="name the directory that the build will install to")
    if options["check"]:
        return _check(prefix, options)
    try:
        _print(_stage(prefix, options), options["form"])
    except BelljarError:
        if options["form"] == "shell":
            click.echo("false")  # else `eval "$(belljar stage ...)" && make` would go on without a stage
        raise
    return 0


def _stage(prefix: Path, options: dict[str, Any]) -> "Stage":
    """Plan a stage and write its files."""
    from belljar.recipe.lock import machine_arch
    from belljar.stage import plan, write
    from belljar.stage.plan import check_prefix, place

    home, path = Home.from_environment(), check_prefix(prefix)
    with progress() as watch:
        toolchain = _toolchain(options, home, watch)
    stage = plan(path, toolchain, place(home.cache), machine=machine_arch())
    write(stage)
    return stage


def _print(stage: "Stage", form: str) -> None:
    from belljar.stage import shell

    toolchain = stage.toolchain
    lines = shell.environment(stage, os.environ.get("PATH", "")) if form == "env" else shell.enter(stage)
    value = {
        "prefix": stage.prefix,
        "toolchain": toolchain.kind,
        "glibc": toolchain.glibc,
        "arch": toolchain.arch,
        "directory": str(stage.directory),
        "path": str(stage.bin),
        "cxx": toolchain.cxx,
        "variables": dict(stage.variables),
    }
    if form == "json":
        show("json", [], value)
        return
    for line in lines:  # as it is: escaping would change what a shell reads
        click.echo(os.fsencode(line))


def _toolchain(options: dict[str, Any], home: Home, watch: Progress) -> "Toolchain":
    """Return what the options ask for. Raises UsageError for a combination that makes no sense."""
    from belljar.recipe.lock import machine_arch

    wanted, kind = options["glibc"] or _DEFAULT, options["toolchain"]
    arch = Arch(options["arch"]) if options["arch"] else machine_arch()
    is_version = re.fullmatch(_NUMBER, wanted) is not None
    if kind == "zig" and not is_version:
        raise UsageError(f"--glibc {wanted}: zig brings its own", hint="a sysroot is for --toolchain cc")
    if options["cc"] and kind == "zig":
        raise UsageError("--cc: is for --toolchain cc")
    if kind == "zig" or (kind is None and is_version and not options["cc"]):
        return _zig(options["zig"], wanted, arch, home, watch)
    if options["zig"]:
        raise UsageError("--zig: is for --toolchain zig")
    return _cc(options, wanted, arch, home, watch)


def _zig(own: Path | None, glibc: str, arch: Arch, home: Home, watch: Progress) -> "Toolchain":
    import shlex

    from belljar.stage import of_zig, versions, zig

    path = zig.given(own) if own is not None else zig.obtain(home, progress=watch)
    name = f"zig at {path}" if own is not None else f"zig {zig.VERSION}"
    versions.require(glibc, versions.offered(path), name)
    return of_zig(path, glibc, arch, version=name, cache=shlex.quote(str(home.cache / "zig")))


def _cc(options: dict[str, Any], wanted: str, arch: Arch, home: Home, watch: Progress) -> "Toolchain":
    from belljar.stage import compiler, of_cc, sysroot
    from belljar.stage.plan import place

    found = sysroot.read(_sysroot(wanted, home, watch))
    if options["arch"] and found.arch is not arch:
        raise UsageError(f"{found.path}: is for {found.arch}, --arch says {arch}")
    return of_cc(compiler.find(options["cc"], found.arch, avoid=place(home.cache)), found)


def _sysroot(wanted: str, home: Home, watch: Progress) -> Path:
    """Return the directory that --glibc names: itself, a root, or what belljar knows for a version."""
    from belljar.stage import sysroot, versions

    if wanted.startswith(_ROOT) or wanted == _DEFAULT:
        from belljar.verify import roots

        name = wanted.removeprefix(_ROOT) if wanted.startswith(_ROOT) else f"glibc-{_DEFAULT}"
        return roots.obtain(name, home, watch).path
    if not re.fullmatch(_NUMBER, wanted):
        return Path(wanted)
    versions.require(wanted, (_DEFAULT, *sysroot.SUITES), "--toolchain cc")
    return sysroot.of_debian(sysroot.SUITES[wanted], home, watch)


def _check(prefix: Path, options: dict[str, Any]) -> int:
    """Audit the prefix against the version that was asked for, or that the shell was staged with."""
    from belljar.audit import Policy, audit
    from belljar.report.audit_text import render

    wanted = options["glibc"] or os.environ.get("BELLJAR_GLIBC") or _DEFAULT
    if not re.fullmatch(_NUMBER, wanted):
        from belljar.stage import sysroot

        with progress() as watch:
            wanted = sysroot.read(_sysroot(wanted, Home.from_environment(), watch)).glibc
    with progress() as watch:
        report = audit((prefix,), policy=Policy.of(glibc=wanted), progress=watch)
    if not report.files:
        raise InputError(f"{prefix}: holds no program or library", hint="install into it, then check")
    show("json" if options["form"] == "json" else "text", render(report), report.to_json())
    return 1 if report.errors else 0
