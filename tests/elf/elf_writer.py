"""Small ELF files, made byte by byte in any class and byte order: one segment, all that a loader reads."""

import struct
from dataclasses import dataclass, field

BASE = 0x10000
PAGE = 0x1000


@dataclass(kw_only=True)
class Made:
    """A file in the making; `write()` gives its bytes, and `at` where its tables came to lie."""

    wide: bool = True
    big: bool = False
    kind: int = 3
    machine: int = 62
    interpreter: str | None = None
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: str | None = None
    runpath: str | None = None
    # (library, ((version, index, flags), ...))
    needs: tuple[tuple[str, tuple[tuple[str, int, int], ...]], ...] = ()
    # (version, index, flags, parents)
    definitions: tuple[tuple[str, int, int, tuple[str, ...]], ...] = ()
    # (name, binding, defined, version index as it stands)
    symbols: tuple[tuple[str, int, bool, int], ...] = ()
    hash: str = "sysv"
    notes: tuple[tuple[bytes, int, bytes], ...] = ()
    extra_tags: tuple[tuple[int, int], ...] = ()
    at: dict[str, int] = field(default_factory=dict)

    def pack(self, form: str, *numbers: int) -> bytes:
        return struct.pack((">" if self.big else "<") + form, *numbers)

    def write(self) -> bytes:
        self._strings, self._known = bytearray(b"\0"), {"": 0}
        tags = self._naming_tags()
        word = "Q" if self.wide else "I"
        tables: list[tuple[str, int | None, bytes]] = []
        if self.symbols or self.hash == "gnu":
            tables.append(("symtab", 6, self._symtab()))
            tables.append(("versym", 0x6FFFFFF0, self._versym()))
            tables += self._counting_tables()
        if self.needs:
            tables.append(("verneed", 0x6FFFFFFE, self._verneed()))
            tags.append((0x6FFFFFFF, len(self.needs)))
        if self.definitions:
            tables.append(("verdef", 0x6FFFFFFC, self._verdef()))
            tags.append((0x6FFFFFFD, len(self.definitions)))
        tables.append(("strtab", 5, bytes(self._strings)))
        tags.append((10, len(self._strings)))
        if self.interpreter is not None:
            tables.append(("interp", None, self.interpreter.encode() + b"\0"))
        if self.notes:
            tables.append(("notes", None, b"".join(self._note(*note) for note in self.notes)))
        offset = 0x200
        body = bytearray()
        for name, tag, content in tables:
            content += bytes(-len(content) % 8)
            self.at[name] = offset + len(body)
            if tag is not None:
                tags.append((tag, BASE + offset + len(body)))
            body += content
        self.at["dynamic"] = offset + len(body)
        tags += self.extra_tags
        dynamic = b"".join(self.pack(word * 2, *tag) for tag in [*tags, (0, 0)])
        body += dynamic
        size = offset + len(body)
        segments = [(1, 0, size), (2, self.at["dynamic"], len(dynamic))]
        if self.interpreter is not None:
            segments.append((3, self.at["interp"], len(self.interpreter) + 1))
        if self.notes:
            segments.append((4, self.at["notes"], sum(len(self._note(*note)) for note in self.notes)))
        head = self._head(len(segments)) + b"".join(self._segment(*segment) for segment in segments)
        assert len(head) <= offset
        return head.ljust(offset, b"\0") + bytes(body)

    def string(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = len(self._strings)
            self._strings += text.encode() + b"\0"
        return self._known[text]

    def _head(self, count: int) -> bytes:
        ident = b"\x7fELF" + bytes([1 + self.wide, 1 + self.big, 1]) + bytes(9)
        word, size, entry = ("Q", 64, 56) if self.wide else ("I", 52, 32)
        return ident + self.pack(
            f"HHI{word}{word}{word}IHHHHHH",
            self.kind,
            self.machine,
            1,
            BASE,
            size,
            0,
            0,
            size,
            entry,
            count,
            0,
            0,
            0,
        )

    def _segment(self, kind: int, offset: int, size: int) -> bytes:
        if self.wide:
            return self.pack("IIQQQQQQ", kind, 4, offset, BASE + offset, BASE + offset, size, size, 8)
        return self.pack("8I", kind, offset, BASE + offset, BASE + offset, size, size, 4, 4)

    def _naming_tags(self) -> list[tuple[int, int]]:
        tags = [(1, self.string(name)) for name in self.needed]
        for tag, text in ((14, self.soname), (15, self.rpath), (29, self.runpath)):
            if text is not None:
                tags.append((tag, self.string(text)))
        return tags

    def _symtab(self) -> bytes:
        out = bytearray(24 if self.wide else 16)
        for name, binding, defined, _ in self.symbols:
            at, info, section = self.string(name), binding << 4 | 2, 1 if defined else 0
            out += (
                self.pack("IBBHQQ", at, info, 0, section, 0, 0)
                if self.wide
                else self.pack("IIIBBH", at, 0, 0, info, 0, section)
            )
        return bytes(out)

    def _versym(self) -> bytes:
        return self.pack(f"{len(self.symbols) + 1}H", 0, *(index for *_, index in self.symbols))

    def _counting_tables(self) -> list[tuple[str, int, bytes]]:
        total = len(self.symbols) + 1
        if self.hash == "sysv of 8 bytes":
            return [("hash", 4, self.pack(f"3Q{total}Q", 1, total, 0, *([0] * total)))]
        if self.hash == "sysv":
            return [("hash", 4, self.pack(f"3I{total}I", 1, total, 0, *([0] * total)))]
        first = next(
            (number for number, (_, _, is_defined, _) in enumerate(self.symbols, 1) if is_defined), total
        )
        bloom = self.pack("Q" if self.wide else "I", 0)
        if first == total:
            gnu = self.pack("4I", 1, 1, 1, 0) + bloom + self.pack("I", 0)
        else:
            chain = [0] * (total - first - 1) + [1]
            gnu = self.pack("4I", 1, first, 1, 0) + bloom + self.pack(f"I{len(chain)}I", first, *chain)
        return [("gnu_hash", 0x6FFFFEF5, gnu), *self._relocations()]

    def _relocations(self) -> list[tuple[str, int, bytes]]:
        form, shift, tag, size_tag = ("QQq", 32, 7, 8) if self.wide else ("II", 8, 17, 18)
        rows = [
            self.pack(form, BASE, number << shift | 1, *([0] if self.wide else []))
            for number, (_, _, is_defined, _) in enumerate(self.symbols, 1)
            if not is_defined
        ]
        self.extra_tags += ((size_tag, sum(map(len, rows))),)
        return [("relocations", tag, b"".join(rows))]

    def _verneed(self) -> bytes:
        out = bytearray()
        for number, (library, versions) in enumerate(self.needs):
            is_last = number == len(self.needs) - 1
            out += self.pack(
                "HHIII",
                1,
                len(versions),
                self.string(library),
                16,
                0 if is_last else 16 * (len(versions) + 1),
            )
            for place, (name, index, flags) in enumerate(versions):
                link = 0 if place == len(versions) - 1 else 16
                out += self.pack("IHHII", 7, flags, index, self.string(name), link)
        return bytes(out)

    def _verdef(self) -> bytes:
        out = bytearray()
        for number, (name, index, flags, parents) in enumerate(self.definitions):
            names = (name, *parents)
            link = 0 if number == len(self.definitions) - 1 else 20 + 8 * len(names)
            out += self.pack("HHHHIII", 1, flags, index, len(names), 7, 20, link)
            for place, each in enumerate(names):
                out += self.pack("II", self.string(each), 0 if place == len(names) - 1 else 8)
        return bytes(out)

    def _note(self, owner: bytes, kind: int, content: bytes) -> bytes:
        pad = 8 if self.wide else 4
        head = self.pack("III", len(owner), len(content), kind) + owner
        return head + bytes(-len(head) % pad) + content + bytes(-len(content) % pad)
