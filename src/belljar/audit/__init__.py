"""What ties a binary to a machine."""

from belljar.audit.checks import Finding, Severity
from belljar.audit.facts import FileFacts, Kind, VersionUse
from belljar.audit.floors.glibc import GlibcVersion
from belljar.audit.policy import ANYTHING, InterpreterRule, Policy
from belljar.audit.report import Floor, Library, Report
from belljar.audit.run import audit

__all__ = [
    "ANYTHING",
    "FileFacts",
    "Finding",
    "Floor",
    "GlibcVersion",
    "InterpreterRule",
    "Kind",
    "Library",
    "Policy",
    "Report",
    "Severity",
    "VersionUse",
    "audit",
]
