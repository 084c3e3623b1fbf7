"""What a proof of relocation showed, as text; its JSON is what the store records."""

from collections.abc import Mapping
from typing import Any

_SHOWN = 20
_WORDS = {
    "exact": "proved: {files} files, moved, equal a second build under another prefix",
    "derived": "proved: as exact, up to what is computed from the content:",
    "undecided": "not proved: the build is not reproducible",
    "refuted": "refuted: the output follows its prefix where the table does not, or the reverse",
}


def is_proved(proof: Mapping[str, Any] | None) -> bool:
    """Whether a recorded proof says that the artifact can be moved."""
    return proof is not None and proof.get("verdict") in {"exact", "derived"}


def render(proof: Mapping[str, Any]) -> list[str]:
    """Return the verdict, then a line for each thing that differs, decisive ones first."""
    count, findings = proof.get("findings_in_all", 0), proof.get("findings", ())
    words = _WORDS.get(proof.get("verdict", ""), "of a kind that this version does not know")
    shown = [f"    {item.get('text')}" for item in findings[:_SHOWN]]
    more = count - len(shown)
    rest = [f"    and {more} more"] if more > 0 else []
    return [words.format(files=proof.get("files"), count=count), *shown, *rest]
