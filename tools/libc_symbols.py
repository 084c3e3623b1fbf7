"""Make src/belljar/audit/floors/{glibc,musl}.symbols from what zig knows of both libraries.

    .venv/bin/python tools/libc_symbols.py

The PyPI package `ziglang` (a requirement of the tests) carries, below `lib/libc`, what zig needs to make
stub libraries of any release: `glibc/abilists`, a binary table of every symbol of every glibc since 2.0 by
library, release and architecture; `musl/libc.S`, the symbols of musl. Both stem from the projects' own ABI
lists (glibc: `sysdeps/**/*.abilist`). Format of abilists, found by decoding it:

    u8 n, n names of libraries          u8 n, n releases as 3 bytes      u8 n, n targets, NUL-terminated
    u16 n functions, then objects, then thread-local objects likewise: NUL-terminated name, then inclusions:
        uleb128 bit mask of targets; for objects uleb128 size; u8 library, bit 7: last of this name;
        u8 release, bit 7: last of this inclusion
"""

import importlib.metadata
import re
from collections import defaultdict
from pathlib import Path

import ziglang

LIBC = Path(ziglang.__file__).parent / "lib" / "libc"
ROOM = Path(__file__).parent.parent / "src" / "belljar" / "audit" / "floors"
# belljar's names of the architectures that zig's table knows.
ARCHES = {
    "aarch64-linux-gnu": "aarch64",
    "arm-linux-gnueabihf": "arm",
    "x86-linux-gnu": "i386",
    "loongarch64-linux-gnu": "loongarch64",
    "m68k-linux-gnu": "m68k",
    "mips64el-linux-gnuabi64": "mips64el",
    "mipsel-linux-gnueabihf": "mipsel",
    "powerpc64le-linux-gnu": "ppc64le",
    "riscv64-linux-gnu": "riscv64",
    "s390x-linux-gnu": "s390x",
    "sparc64-linux-gnu": "sparc64",
    "x86_64-linux-gnux32": "x32",
    "x86_64-linux-gnu": "x86_64",
}
LIBRARIES = {
    "c": "libc.so.6",
    "m": "libm.so.6",
    "ld": "ld.so",
    "resolv": "libresolv.so.2",
    "util": "libutil.so.1",
}
LIBRARIES |= {"pthread": "libpthread.so.0", "dl": "libdl.so.2", "rt": "librt.so.1"}


class Reader:
    """A cursor over the table."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def short(self):
        return self.byte() | self.byte() << 8

    def text(self):
        end = self.data.index(0, self.at)
        text, self.at = self.data[self.at : end].decode(), end + 1
        return text

    def number(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


def inclusions(reader, *, sized):
    """Yield name, mask of targets, library, releases (by number)."""
    left = reader.short()
    while left:
        name, last = reader.text(), False
        while not last:
            mask = reader.number()
            if sized:
                reader.number()
            library = reader.byte()
            last, library, releases = library >= 128, library & 127, []
            while not releases or releases[-1] < 128:
                releases.append(reader.byte())
            left -= 1
            yield name, mask, library, [release & 127 for release in releases]


def glibc():
    """Return lines: library, first release by architecture, names."""
    reader = Reader((LIBC / "glibc" / "abilists").read_bytes())
    libraries = [reader.text() for _ in range(reader.byte())]
    releases = [(reader.byte(), reader.byte(), reader.byte()) for _ in range(reader.byte())]
    targets = [reader.text() for _ in range(reader.byte())]
    first = defaultdict(dict)
    for sized in (False, True, True):
        for name, mask, library, found in inclusions(reader, sized=sized):
            for number, target in enumerate(targets):
                if mask >> number & 1 and target in ARCHES:
                    known = first[name, LIBRARIES[libraries[library]]]
                    known[ARCHES[target]] = min([*found, known.get(ARCHES[target], 127)])
    assert reader.at == len(reader.data)
    groups = defaultdict(list)
    for (name, library), known in first.items():
        groups[library, tuple(word(releases, known.get(arch)) for arch in ARCHES.values())].append(name)
    yield " ".join(ARCHES.values())
    for (library, words), names in sorted(groups.items()):
        yield f"{library} {' '.join(words)}: {' '.join(sorted(names))}"


def word(releases, number):
    """Write a release as version names do: 2.17, 2.2.5."""
    return "-" if number is None else ".".join(map(str, releases[number])).removesuffix(".0")


def musl():
    """Return one line of names: what any architecture's musl exports."""
    text = (LIBC / "musl" / "libc.S").read_text()
    yield " ".join(sorted(set(re.findall(r"^(?:\.globl|\.weak|WEAK\w*) (\w+)$", text, re.MULTILINE))))


def main():
    version = importlib.metadata.version("ziglang")
    head = f"# Made by tools/libc_symbols.py from ziglang {version}; do not edit."
    for name, lines in (("glibc", glibc()), ("musl", musl())):
        path = ROOM / f"{name}.symbols"
        path.write_text("\n".join([head, *lines]) + "\n")
        print(f"{path.name}: {path.stat().st_size:,} bytes, {path.read_text().count(chr(10))} lines")


if __name__ == "__main__":
    main()
