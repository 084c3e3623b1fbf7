"""Text: prefixes are replaced by others of any length.

What stands around a prefix stays byte for byte, so that the encoding, line ends and a missing newline at
the end do not matter. Text in UTF-16 or UTF-32 gets the new prefix in the same codec.
"""

from belljar.relocate.foreign.kinds import wide_codec
from belljar.relocate.foreign.moves import Hit, spelled
from belljar.relocate.foreign.subject import Finding, Subject


def plan_text(subject: Subject, finding: Finding, *, skip: int = 0) -> None:
    """Replace each prefix that ends behind `skip`."""
    for hit in subject.hits:
        if hit.doubt or hit.end <= skip:
            continue
        try:
            finding.replace(hit, spelled(hit.pair[1], _codec(subject, hit)), "put the new prefix")
        except UnicodeError:
            finding.refuse(
                subject.path, f"the new prefix cannot be spelled in {hit.codec}", offset=hit.offset
            )


def _codec(subject: Subject, hit: Hit) -> str:
    """Return the codec of the new prefix: the file's own where it says the order of bytes."""
    own = wide_codec(subject.head) if hit.width > 1 and not hit.pair[1].isascii() else None
    return own if own and own.startswith(hit.codec) else hit.codec
