"""Pilots: programs of Debian 12 in a prefix, sealed, moved, and run on systems that are not Debian 12.

A pilot's prefix is made of its own packages' files (what lies in /usr), of what is compiled for it, and
of bash, grep, sed and some of coreutils for its script. The script is run twice: unsealed, on a root of
Debian 12 with the packages' dependencies, and sealed, from another directory, on each root. Both must
write the same and end alike.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import compilers

from belljar.archive.unpack import unpack
from belljar.home import Home
from belljar.seal import doing
from belljar.seal.plan import Options, plan
from belljar.verify import Result, Root, roots, verify
from belljar.verify.root import describe

ROOTS = ("glibc-2.17", "debian:bullseye", "debian:forky", "musl", "empty")
"""Where pilots run; forky is the newest suite but sid, whose packages may not fit one another for a day."""
_TOOLS = ("bash", "grep", "sed")
_COREUTILS = ("base64", "cat", "cut", "head", "ls", "rm", "seq", "sha256sum", "sleep", "sort", "tail")
_EPOCH = 315_619_200


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """A prefix and what is done with it.

    `packages` of the set of packages `system` give their files, `sysroot` those that are unpacked whole.
    `made` are (set of compilers, script) pairs, each run with the prefix as /w; `wheels` go to lib/site.
    """

    script: str
    packages: tuple[str, ...] = ()
    system: str = "pilots"
    sysroot: tuple[str, ...] = ()
    made: tuple[tuple[str, str], ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    wheels: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How one pilot fared: how it ended at home, what sealing took, and how it ended on each root."""

    name: str
    home: Result
    sealed: int
    bundled: int
    results: tuple[Result, ...]

    def faults(self) -> list[str]:
        """What is not as at home, in words."""
        wanted = self.home.stdout.text.splitlines()
        faults = [] if self.home.passed and wanted else [f"at home: {self.home.verdict}{self.home.problem}"]
        for result in self.results:
            told = result.stdout.text.splitlines()
            odd = [f"{new!r} for {old!r}" for old, new in zip(wanted, told, strict=False) if old != new]
            if odd or len(told) != len(wanted) or result.status != self.home.status:
                rest = odd[:1] or told[len(wanted) :] or wanted[len(told) :]
                said = result.stderr.text.strip()[-300:]
                faults.append(f"{result.root.name}: {result.verdict} {result.problem} {rest[:1]} {said}")
        return faults


def run(name: str, pilot: Pilot, scratch: Path, places: Sequence[Root]) -> Row:
    """Make a pilot's prefix, run it at home, seal it, move it, run it on every root."""
    system = compilers.environment(pilot.system).path
    prefix = scratch / f"{name} at home"
    fill(prefix, pilot)
    home = _ran(prefix, pilot, [describe("home", system, "")])[0]
    sealing = plan(prefix, Options(root=system))
    doing.seal(sealing)
    assert doing.check(prefix) == ()
    moved = prefix.rename(scratch / f"{name} moved")
    results = _ran(moved, pilot, places)
    bundled = len(sealing.bundle.files) if sealing.bundle else 0
    return Row(name=name, home=home, sealed=len(sealing.programs), bundled=bundled, results=results)


def obtained(home: Home, names: Sequence[str] = ROOTS) -> list[Root]:
    """The roots of these names."""
    return [roots.obtain(name, home) for name in names]


def fill(prefix: Path, pilot: Pilot) -> None:
    """Make a pilot's prefix."""
    prefix.mkdir(parents=True)
    files = compilers.debs(pilot.system)
    stage = prefix.with_name(f"{prefix.name}.stage")
    unpack(files["coreutils"], stage, merged_usr=True, mtime=_EPOCH)
    for path in [] if "coreutils" in pilot.packages else [*(stage / "usr/bin").iterdir()]:
        if path.name not in _COREUTILS:
            path.unlink()  # sealing a hundred programs for each pilot takes its time
    for package in dict.fromkeys([*_TOOLS, *pilot.packages]):
        unpack(files[package], stage, merged_usr=True, mtime=_EPOCH)
    for part in (stage / "usr").iterdir():
        part.rename(prefix / part.name)
    if (stage / "etc").exists():
        (stage / "etc").rename(prefix / "etc")
    shutil.rmtree(stage)
    _turn_links(prefix)
    for package in pilot.sysroot:
        unpack(files[package], prefix / "sysroot", merged_usr=True, mtime=_EPOCH)
    _turn_links(prefix / "sysroot", below="")
    for compiler, script in pilot.made:
        compilers.shell(compiler, textwrap.dedent(script), prefix)
        (prefix / "log").unlink()
    for wheel in pilot.wheels:
        unpack(wheel_of(wheel), prefix / "lib/site", mtime=_EPOCH)
    for name, text in pilot.files.items():
        (prefix / name).write_text(text)
    (prefix / "pilot.sh").write_text("exec 2>&1\nset -eu\ncd /tmp\n" + textwrap.dedent(pilot.script))


def _turn_links(top: Path, below: str = "/usr") -> None:
    """Let absolute links lead to the same files below `top`, which stands for `below` of the system."""
    for path in top.rglob("*"):
        if path.is_symlink() and (target := os.readlink(path)).startswith("/"):
            inside = top / target.removeprefix(below).lstrip("/")
            path.unlink()
            path.symlink_to(os.path.relpath(inside, path.parent))


def wheel_of(request: str) -> Path:
    """Download a wheel for CPython 3.11, once."""
    kept = Path(tempfile.gettempdir()) / f"belljar-tests-wheels-{os.getuid()}"
    name, _, version = request.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not (found := list(kept.glob(pattern))):
        words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11"]
        words += [f"--platform=manylinux_2_{glibc}_x86_64" for glibc in (17, 28)]
        words += [f"--dest={kept}", request]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
        found = list(kept.glob(pattern))
    return found[0]


def _ran(prefix: Path, pilot: Pilot, places: Sequence[Root]) -> tuple[Result, ...]:
    variables = {
        name: value.replace("PREFIX", str(prefix))
        for name, value in {
            "PATH": "PREFIX/bin",
            "PREFIX": "PREFIX",
            "TERM": "xterm",
            **pilot.variables,
        }.items()
    }
    command = ["bin/bash", "pilot.sh"]
    done = verify(prefix, command, places, env=variables, timeout=180).results
    return tuple(_without(result, str(prefix)) for result in done)


def _without(result: Result, prefix: str) -> Result:
    """Put the name PREFIX in the place of the prefix's path."""
    from dataclasses import replace

    text = result.stdout.text.replace(prefix, "PREFIX")
    return replace(result, stdout=replace(result.stdout, text=text))
