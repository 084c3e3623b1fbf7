"""Why an output did not become an artifact, as text and as JSON."""

from typing import Any

from belljar.build import GuaranteeError
from belljar.report import audit_text

_SHOWN = 20


def render(error: GuaranteeError) -> list[str]:
    """Return the lines that say which guarantees an output does not meet, and where."""
    lines = [] if error.report.passed else audit_text.render(error.report)
    lines += [f"cannot be moved: {item}" for item in error.unsupported[:_SHOWN]]
    more = len(error.unsupported) - _SHOWN
    return [*lines, *([f"  and {more} more"] if more > 0 else [])]


def to_json(error: GuaranteeError) -> dict[str, Any]:
    """Return the same as JSON values; there is no artifact."""
    return {"artifact": None, "audit": error.report.to_json(), "unsupported": list(error.unsupported)}
