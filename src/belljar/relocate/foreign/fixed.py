"""Content that records lengths, order or checksums of its own: databases, caches, sorted tables.

A database takes a prefix of the same length only: its strings stand side by side, each counted. Tables that
are sorted, hashed or summed over their paths are refused with the command that makes them anew.
"""

from belljar.relocate.foreign import kinds
from belljar.relocate.foreign.binary import overwrite
from belljar.relocate.foreign.moves import Hit
from belljar.relocate.foreign.subject import Finding, Subject


def plan_sorted(subject: Subject, finding: Finding) -> None:
    """Refuse a table whose order or sums follow from the paths in it, with the remedy."""
    words = kinds.ordered(subject.name, subject.head)
    assert words is not None
    what, remedy = words
    reason = f"{what}, whose order or sums follow from the paths: leave it and {remedy}"
    finding.refuse(subject.path, reason, offset=subject.hits[0].offset)


def plan_fixed(subject: Subject, finding: Finding) -> None:
    """Overwrite at equal length; else refuse."""
    what = kinds.fixed(subject.head)
    for hit in subject.hits:
        if hit.doubt == "goes on":
            finding.refuse(subject.path, f"{what}: not certain where a path ends", offset=hit.offset)
        elif len(hit.pair[0]) == len(hit.pair[1]):
            overwrite(subject, finding, _certain(hit))
        else:
            finding.refuse(subject.path, f"{what}: takes prefixes of the same length only", offset=hit.offset)


def _certain(hit: Hit) -> Hit:
    """Return a hit without doubt about what stands before it: another column does."""
    return hit._replace(doubt="")
