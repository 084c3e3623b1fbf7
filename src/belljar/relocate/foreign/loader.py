"""What the kernel and the loader read of a program: interpreter, search paths, names of libraries.

These can take any new prefix: the ELF editor finds room for them. With `relative`, an entry of a search path
that lies in the tree becomes one from the file's own directory, `$ORIGIN/...` (ld.so(8)); the
interpreter has no such form, since the kernel takes an absolute path only.

A file is read, never mapped: one that shrinks while it is mapped ends the process with SIGBUS. To see what it
names takes its tables only; what is edited is in memory as a whole, which is why there is a limit.
"""

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from belljar.elf import Elf, read
from belljar.elf.const import Tag
from belljar.elf.edit import edit
from belljar.elf.names import Edit, EditRefused, PathTag, ReplaceNeeded, SetInterpreter, SetRunpath, SetSoname
from belljar.ldso.image import image_of
from belljar.relocate.foreign.moves import inside
from belljar.relocate.foreign.subject import Subject
from belljar.splice import Splice

LIMIT = 1 << 30
"""How many bytes a file may have to be edited."""
_STRINGS = (Tag.NEEDED, Tag.SONAME, Tag.RPATH, Tag.RUNPATH)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderEdits:
    """The edits, why, and the bytes (begin, end) of names that nothing refers to afterwards."""

    splices: tuple[Splice, ...] = ()
    reasons: tuple[str, ...] = ()
    dead: tuple[tuple[int, int], ...] = ()


def loader_splices(subject: Subject) -> LoaderEdits:
    """Return the edits that give the loader's strings their new prefixes; none where none stands there.

    Raises ElfError for a damaged file, EditRefused where the editor does not touch a sound one.
    """
    os.lseek(subject.fd, 0, os.SEEK_SET)
    elf = read(memoryview(image_of(subject.fd, subject.size)), exports=False)
    wishes = list(_wishes(subject, elf))
    if not wishes:
        return LoaderEdits()
    if subject.size > LIMIT:
        raise EditRefused(f"the file has more than {LIMIT >> 20} MiB")
    return LoaderEdits(
        splices=edit(_whole(subject), [wish for wish, _ in wishes]),
        reasons=tuple(reason for _, reason in wishes),
        dead=tuple(_places(elf)),
    )


def _whole(subject: Subject) -> memoryview:
    """Return the file's bytes; zeros where it has shrunk since, which applying the edits will find."""
    return memoryview(os.pread(subject.fd, subject.size, 0).ljust(subject.size, b"\0"))


def _wishes(subject: Subject, elf: Elf) -> Iterator[tuple[Edit, str]]:
    """Yield the edits that are wanted, each with its reason."""
    dynamic = elf.dynamic
    if elf.interpreter is not None and (program := _moved(subject, elf.interpreter)) != elf.interpreter:
        yield SetInterpreter(path=program), "set the interpreter"
    if dynamic is None:
        return
    path = dynamic.rpath if dynamic.runpath is None else dynamic.runpath
    if path is not None:
        entries = [_entry(subject, entry) for entry in path.split(":")]
        if ":".join(entries) != path:
            tag = PathTag.KEEP if dynamic.rpath is None or dynamic.runpath is None else PathTag.RUNPATH
            name = "RPATH" if dynamic.runpath is None else "RUNPATH"
            yield SetRunpath(entries=tuple(entries), tag=tag, replace=True), f"set the {name}"
    for name in dynamic.needed:
        if (new := _moved(subject, name)) != name:
            yield ReplaceNeeded(old=name, new=new), "replace the name of a library"
    if dynamic.soname is not None and (new := _moved(subject, dynamic.soname)) != dynamic.soname:
        yield SetSoname(name=new), "set the soname"


def _moved(subject: Subject, text: str) -> str:
    return os.fsdecode(subject.moves.replaced(os.fsencode(text)))


def _entry(subject: Subject, entry: str) -> str:
    """Return a directory of a search path, moved; from the file's own place where that is asked for.

    An empty entry means the directory in which a program is started, as `.` does.
    """
    if not entry:
        return "."
    moved = os.fsencode(_moved(subject, entry))
    new = subject.moves.own[1]
    if not (subject.options.relative and inside(moved, new)):
        return os.fsdecode(moved)
    place = posixpath.join(new, posixpath.dirname(os.fsencode(subject.path)))
    way = posixpath.relpath(moved, place)
    return "$ORIGIN" if way == b"." else f"$ORIGIN/{os.fsdecode(way)}"


def _places(elf: Elf) -> Iterator[tuple[int, int]]:
    """Yield where the names stand that the dynamic segment refers to."""
    assert elf.dynamic is not None or elf.interpreter is not None
    if elf.dynamic is None or (table := elf.dynamic.first(Tag.STRTAB)) is None:
        return
    texts = {Tag.RPATH: elf.dynamic.rpath, Tag.RUNPATH: elf.dynamic.runpath, Tag.SONAME: elf.dynamic.soname}
    needed = iter(elf.dynamic.needed)
    for entry in elf.dynamic.entries:
        if entry.tag in _STRINGS:
            text = next(needed, None) if entry.tag == Tag.NEEDED else texts[Tag(entry.tag)]
            at = elf.offset_of(table.value + entry.value)
            if at is not None and text:
                yield at, at + len(os.fsencode(text))
