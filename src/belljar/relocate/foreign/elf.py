"""Programs and libraries: strings are overwritten where the new prefix fits.

A new prefix that is not longer is a matter of `binary`. A longer one has room in one place: what the kernel
and the loader read (interpreter, RPATH, RUNPATH, absolute names of libraries) can be put elsewhere in the
file by the ELF editor. All other strings are code and data with fixed places: refused. Debugging information
is never loaded: it keeps the old path, which is noted.
"""

from collections.abc import Iterable

from belljar.elf import ElfError
from belljar.elf.names import EditRefused
from belljar.relocate.foreign.binary import note_doubt, overwrite
from belljar.relocate.foreign.loader import loader_splices
from belljar.relocate.foreign.moves import Hit
from belljar.relocate.foreign.pieces import Piece, pieces
from belljar.relocate.foreign.spelling import Spelling, spell
from belljar.relocate.foreign.subject import Finding, Subject
from belljar.relocate.foreign.tails import has_unseen, inner_references
from belljar.relocate.foreign.unmarked import packs_strings, refuse_end, refuse_hidden
from belljar.relocate.pieces.image import Image, images
from belljar.splice import Splice

_LOADER = (".interp", ".dynstr")
_UNSEEN = "in code of this machine nobody sees whether the end of the prefix is another string, too"


def plan_elf(subject: Subject, finding: Finding) -> None:
    """Plan the edits of one ELF file, and say what of it cannot be moved."""
    image = next(iter(images(subject.fd, [hit.offset for hit in subject.hits] or [0])), None)
    taken = _plan_loader(subject, finding, image)
    split = tuple(pieces(subject, image)) if image else ()
    spelling = spell(subject, image, split) if image and split else None
    more = spelling.constants(image, subject.hits) if image and spelling else ()
    loads = spelling.loads if spelling else ()
    shared = inner_references(subject, image, loads=loads, more=more) if image else {}
    if any(hit.offset in shared for hit in more):
        spelling = None
    if image and has_unseen(subject, image) and not _keep_tails(subject):
        finding.notes.append(f"{_UNSEEN}: {subject.path}")
    for hit in subject.hits:
        if any(begin < hit.end and hit.offset < end for begin, end in taken):
            continue
        is_certain = spelling is not None and spelling.has(hit)  # the code says so
        sure = hit._replace(doubt="") if is_certain else hit
        _plan_hit(subject, finding, sure, image, shared.get(hit.offset))
    refuse_hidden(subject, finding, image)
    if spelling is None or not _put(subject, finding, spelling):
        _refuse_pieces(subject, finding, split)


def _put(subject: Subject, finding: Finding, spelling: Spelling) -> bool:
    """Overwrite what code spells; False, and nothing is, where whole prefixes become something else."""
    new = dict(spelling.new)
    for splice in finding.splices:
        for place, byte in enumerate(splice.new[: len(splice.old)], start=splice.offset):
            if new.pop(place, byte) != byte:
                return False
    for place, byte in new.items():
        if (old := subject.read(place, 1)) != bytes([byte]):
            finding.splices.append(Splice(offset=place, old=old, new=bytes([byte])))
    finding.because("overwrite what instructions spell, byte by byte")
    return True


def _refuse_pieces(subject: Subject, finding: Finding, split: Iterable[Piece]) -> None:
    for piece in split:
        letters = piece.letters[:32].decode(errors="replace")
        finding.refuse(
            subject.path,
            f"a piece of the prefix, {letters!r}: the compiler split a path",
            offset=piece.offset,
            section=piece.section,
        )


def _keep_tails(subject: Subject) -> bool:
    """Whether the last name of each prefix stays: then so does what may be stored in it."""
    pairs = {hit.pair for hit in subject.hits}
    names = ((old.rpartition(b"/")[2], new.rpartition(b"/")[2]) for old, new in pairs)
    return all(len(old) == len(new) for old, new in pairs) and all(old == new for old, new in names)


def _plan_loader(subject: Subject, finding: Finding, image: Image | None) -> list[tuple[int, int]]:
    """Let the editor change what the loader reads; return the bytes that it deals with.

    What it does not edit is left to overwriting, where the new prefix fits.
    """
    sure = [hit for hit in subject.hits if not hit.doubt]
    longer = any(len(hit.pair[1]) > len(hit.pair[0]) for hit in sure)
    if not any(_is_read_by_loader(image, hit) for hit in sure):
        return []
    try:
        edits = loader_splices(subject)
    except (ElfError, EditRefused) as error:
        if longer:
            finding.refuse(subject.path, f"the loader's strings cannot be edited: {error.message}")
        return []
    if not edits.splices:
        return []
    finding.splices += edits.splices
    for reason in edits.reasons:
        finding.because(reason)
    return [*((item.offset, item.end) for item in edits.splices), *edits.dead]


def _is_read_by_loader(image: Image | None, hit: Hit) -> bool:
    """Whether a hit is where the loader's strings are; without section headers nobody can tell."""
    region = image.region(hit.offset) if image else None
    return region is None or region.is_mixed or region.name in _LOADER


def _plan_hit(subject: Subject, finding: Finding, hit: Hit, image: Image | None, shared: int | None) -> None:
    region = image.region(hit.offset) if image else None
    section = region.name if region else ""
    if hit.doubt == "goes on" and chr(max(hit.after, 0)).isalnum() and packs_strings(subject, image):
        refuse_end(subject, finding, hit.offset, section)
        return
    if hit.doubt:
        note_doubt(subject, finding, hit, section)
        return
    is_loaded = region is None or region.address or _is_object(subject) or not section
    if len(hit.pair[1]) > len(hit.pair[0]) and not is_loaded:
        note = f"{subject.path}: {section}: is never loaded, keeps the old prefix"
        if note not in finding.notes:
            finding.notes.append(note)
        return
    overwrite(subject, finding, hit, section=section, shared=shared)


def _is_object(subject: Subject) -> bool:
    """Whether it is ET_REL, where no section has an address."""
    return subject.head[16:18] in (b"\1\0", b"\0\1")
