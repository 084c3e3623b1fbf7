"""The same sources compiled at two places, and relocation between them compared with the compiler's work.

The oracle: a program built at A and relocated to B is, byte for byte, the program built at B. One kind
of difference is not the relocation's: a compiler or linker may choose among equal constants by a hash of
their content. Such a choice depends on B, a byte that was missed does not; so a program that differs is
built at two more places, and is wrong if the same byte differs at all of them.
"""

import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import compilers
import piece_uses

from belljar.references import Reference, rewritten
from belljar.relocate import scan
from belljar.relocate.search import Window

A = piece_uses.P1
SHORTER = "/opt/prefix/lib"
NO_ID = "-Wl,--build-id=none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A compiler: its set of packages, its command, and how a source for it is made."""

    packages: str
    command: str
    suffix: str
    source: Callable[[Sequence[str], str], str]
    emulator: str | None = None
    """Of Debian's qemu-user-static, where its programs are for another machine."""


_C = piece_uses.c_source
KINDS = {
    "gcc": Kind(packages="gcc", command=f"gcc -w {NO_ID}", suffix="c", source=_C),
    "g++": Kind(
        packages="gcc", command=f"g++ -w -std=c++20 {NO_ID}", suffix="cc", source=piece_uses.cpp_source
    ),
    "gcc -m32": Kind(packages="gcc-32", command=f"gcc -m32 -w {NO_ID}", suffix="c", source=_C),
    "gcc aarch64": Kind(
        packages="gcc-aarch64",
        command=f"aarch64-linux-gnu-gcc -static -w {NO_ID}",
        suffix="c",
        source=_C,
        emulator="qemu-aarch64-static",
    ),
    "gcc-11": Kind(packages="gcc-11", command=f"gcc-11 -w {NO_ID}", suffix="c", source=_C),
    "gcc arm": Kind(
        packages="gcc-arm",
        command=f"arm-linux-gnueabihf-gcc -static -w {NO_ID}",
        suffix="c",
        source=_C,
        emulator="qemu-arm-static",
    ),
    "g++ aarch64": Kind(
        packages="g++-aarch64",
        command=f"aarch64-linux-gnu-g++ -static -w -std=c++20 {NO_ID}",
        suffix="cc",
        source=piece_uses.cpp_source,
        emulator="qemu-aarch64-static",
    ),
    "tcc": Kind(packages="tcc", command="tcc -w", suffix="c", source=_C),
    "clang-13": Kind(packages="clang-13", command=f"clang-13 -w {NO_ID}", suffix="c", source=_C),
    "clang-19": Kind(packages="clang-19", command=f"clang-19 -w {NO_ID}", suffix="c", source=_C),
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
        emulator="qemu-aarch64-static",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one program: `wrong` bytes, what was `reported`, and whether cruder ways fail.

    Plain: the whole placeholder where it stands. Runs: each run of 8 letters of it, as it stands.
    """

    flags: str
    uses: tuple[str, ...]
    wrong: tuple[int, ...]
    reported: tuple[str, ...]
    plain_is_wrong: bool
    runs_are_wrong: bool
    shift_is_wrong: bool | None = None
    """Whether the program does something else after a NUL shift to a shorter path; None: it does not run."""


def judge(kind: str, flags: Sequence[str], programs: Sequence[Sequence[str]], work: Path) -> list[Verdict]:
    """Compile each program with each of the flags at A and at B, and compare."""
    jobs = [(flag, tuple(uses)) for flag in flags for uses in programs]
    _compile(KINDS[kind], jobs, work, (A, piece_uses.other()))
    shifts = _shifted_programs(
        KINDS[kind], [work / str(number) / A[-40:-17] for number in range(len(jobs))], work
    )
    return [
        replace(_verdict(KINDS[kind], job, number, work), shift_is_wrong=shifts[number])
        for number, job in enumerate(jobs)
    ]


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


def _shifted_programs(kind: Kind, places: Sequence[Path], work: Path) -> list[bool | None]:
    """Return of each program whether it does something else once the shorter path is put into it.

    It is run with three arguments. What it prints must be what it printed, with the shorter path; its exit
    status, which counts bytes printed and comparisons that held, may differ by the bytes alone.
    """
    if kind.emulator is not None:
        shutil.copy(emulators() / kind.emulator, work / "emulator")
    for place in places:
        (place / "s").write_bytes(shifted((place / "p").read_bytes(), A.encode(), SHORTER.encode()))
        (place / "s").chmod(0o755)
    script = _RUN.replace("EMULATOR", "" if kind.emulator is None else "/w/emulator")
    (work / "places").write_text("".join(f"{place.relative_to(work)}\n" for place in places))
    compilers.shell(kind.packages, script.replace("OLD", A).replace("NEW", SHORTER), work)
    return [_does_something_else(place) for place in places]


_RUN = """
buffer=$(printf 'x%.0s' $(seq 4000))
ulimit -c 0; ulimit -t 10
while read -r place; do
    cd "/w/$place"
    for n in 0 1 2; do
        case $n in 0) a=zzz b=zzz ;; 1) a=OLD b=NEW ;; 2) a=OLD/cmp b=NEW/cmp ;; esac
        EMULATOR ./p $a $buffer > p$n 2>&1 < /dev/null && echo 0 > p$n.status || echo $? > p$n.status
        EMULATOR ./s $b $buffer > s$n 2>&1 < /dev/null && echo 0 > s$n.status || echo $? > s$n.status
    done
done < places
"""


def _does_something_else(place: Path) -> bool | None:
    if int((place / "p0.status").read_text()) in (126, 127, 132, 139):
        return None
    for number in range(3):
        said = [(place / f"{name}{number}").read_bytes() for name in "ps"]
        ended = [int((place / f"{name}{number}.status").read_text()) for name in "ps"]
        if said[0].replace(A.encode(), SHORTER.encode()) != said[1]:
            return True
        if (ended[0] - len(said[0]) - ended[1] + len(said[1])) % 256 and ended[0] != ended[1]:
            return True
    return False


def shifted(content: bytes, old: bytes, new: bytes) -> bytes:
    """Put a shorter path into each C string, and zeros behind it: what conda does."""
    result, at = bytearray(content), 0
    while (at := result.find(old, at)) >= 0:
        end = result.find(0, at)
        text = bytes(result[at:end])
        result[at:end] = text.replace(old, new).ljust(len(text), b"\0")
        at += 1
    return bytes(result)


def emulators() -> Path:
    """Return the directory with the programs of Debian's qemu-user-static."""
    return compilers.environment("qemu").path / "usr/bin"
