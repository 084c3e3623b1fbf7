"""The same sources compiled at two places, and relocation between them compared with the compiler's work.

The oracle: a program built at A and relocated to B is, byte for byte, the program built at B. One kind
of difference is not the relocation's: a compiler or linker may choose among equal constants by a hash of
their content. Such a choice depends on B, a byte that was missed does not; so a program that differs is
built at two more places, and is wrong if the same byte differs at all of them.
"""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import compilers
import piece_uses

from belljar.references import Reference, rewritten
from belljar.relocate import scan
from belljar.relocate.search import Window

A = piece_uses.P1
NO_ID = "-Wl,--build-id=none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A compiler: its set of packages, its command, and how a source for it is made."""

    packages: str
    command: str
    suffix: str
    source: Callable[[Sequence[str], str], str]


_C = piece_uses.c_source
KINDS = {
    "gcc": Kind(packages="gcc", command=f"gcc -w {NO_ID}", suffix="c", source=_C),
    "g++": Kind(
        packages="gcc", command=f"g++ -w -std=c++20 {NO_ID}", suffix="cc", source=piece_uses.cpp_source
    ),
    "gcc -m32": Kind(packages="gcc-32", command=f"gcc -m32 -w {NO_ID}", suffix="c", source=_C),
    "gcc aarch64": Kind(
        packages="gcc-aarch64", command=f"aarch64-linux-gnu-gcc -w {NO_ID}", suffix="c", source=_C
    ),
    "clang": Kind(packages="clang", command=f"clang-14 -w {NO_ID}", suffix="c", source=_C),
    "clang++": Kind(
        packages="clang",
        command=f"clang++-14 -w -std=c++20 {NO_ID}",
        suffix="cc",
        source=piece_uses.cpp_source,
    ),
    "rustc": Kind(
        packages="rustc",
        command=f"rustc --edition 2021 -C linker=gcc -C link-arg={NO_ID}",
        suffix="rs",
        source=piece_uses.rust_source,
    ),
    "go": Kind(
        packages="go",
        command="go build -trimpath -ldflags=-buildid=",
        suffix="go",
        source=piece_uses.go_source,
    ),
    "go 386": Kind(
        packages="go",
        command="GOARCH=386 go build -trimpath -ldflags=-buildid=",
        suffix="go",
        source=piece_uses.go_source,
    ),
    "go arm64": Kind(
        packages="go",
        command="GOARCH=arm64 go build -trimpath -ldflags=-buildid=",
        suffix="go",
        source=piece_uses.go_source,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one program: `wrong` bytes, what was `reported`, and whether cruder ways fail."""

    flags: str
    uses: tuple[str, ...]
    wrong: tuple[int, ...]
    reported: tuple[str, ...]
    plain_is_wrong: bool
    runs_are_wrong: bool


def judge(kind: str, flags: Sequence[str], programs: Sequence[Sequence[str]], work: Path) -> list[Verdict]:
    """Compile each program with each of the flags at A and at B, and compare."""
    jobs = [(flag, tuple(uses)) for flag in flags for uses in programs]
    _compile(KINDS[kind], jobs, work, (A, piece_uses.other()))
    return [_verdict(KINDS[kind], job, number, work) for number, job in enumerate(jobs)]


def _compile(
    kind: Kind, jobs: Sequence[tuple[str, Sequence[str]]], work: Path, places: Sequence[str]
) -> None:
    commands = []
    for number, (flags, uses) in enumerate(jobs):
        for place in places:
            directory = work / str(number) / place[-40:-17]
            directory.mkdir(parents=True)
            (directory / f"s.{kind.suffix}").write_text(kind.source(uses, place))
            inside = shlex.quote(str(directory.relative_to(work)))
            commands.append(f"(cd {inside} && {kind.command} {flags} -o p s.{kind.suffix})")
    compilers.compile_all(kind.packages, commands, work)


def _verdict(kind: Kind, job: tuple[str, tuple[str, ...]], number: int, work: Path) -> Verdict:
    there = piece_uses.other()
    program = work / str(number) / A[-40:-17] / "p"
    origin, target = program.read_bytes(), (work / str(number) / there[-40:-17] / "p").read_bytes()
    found = scan(program.parent)
    references = found.table.files.get("p", ())
    old, new = A.encode(), there.encode()
    wrong = _differing(origin, references, target, there)
    if wrong and not found.unsupported:
        for seed in (2, 3):
            again = work / f"{number}-{seed}"
            again.mkdir()
            _compile(kind, [job], again, [piece_uses.other(seed)])
            built = (again / "0" / piece_uses.other(seed)[-40:-17] / "p").read_bytes()
            wrong &= _differing(origin, references, built, piece_uses.other(seed))
    return Verdict(
        flags=job[0],
        uses=job[1],
        wrong=tuple(sorted(wrong)),
        reported=tuple(item.describe() for item in found.unsupported if item.path == "p"),
        plain_is_wrong=origin.replace(old, new) != target,
        runs_are_wrong=_differing(origin, tuple(_runs(origin)), target, there) != set(),
    )


def _differing(origin: bytes, references: Sequence[Reference], target: bytes, there: str) -> set[int]:
    moved = rewritten(origin, references, old=A.encode(), new=there.encode(), subject="p")
    if len(moved) != len(target):
        return {-1}
    return {index for index, (one, other) in enumerate(zip(moved, target, strict=True)) if one != other}


def _runs(content: bytes) -> Iterator[Reference]:
    """Every run of 8 bytes or more as it stands: what a search without rules would rewrite."""
    end = 0
    for run in sorted(Window().over(content).runs()):
        if run.width == 1 and run.offset >= end:
            end = run.offset + run.length
            yield Reference(offset=run.offset, start=run.start, length=run.length)
