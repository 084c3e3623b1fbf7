"""The negative verdict of a build."""

from typing import TYPE_CHECKING

from belljar.errors import NegativeVerdict

# Only what was refused needs the audit's classes; a build that has nothing to do must start fast.
if TYPE_CHECKING:
    from belljar.audit import Report


class GuaranteeError(NegativeVerdict):
    """The output was built but does not meet what the recipe guarantees; `report` is the audit."""

    def __init__(self, message: str, *, report: "Report", unsupported: tuple[str, ...]) -> None:
        super().__init__(message, hint="nothing was stored; `--keep-failed` keeps the output to look at")
        self.report = report
        self.unsupported = unsupported
