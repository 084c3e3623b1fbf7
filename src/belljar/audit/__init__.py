"""What ties a binary to a machine."""

from belljar.audit.checks import Finding, Severity
from belljar.audit.facts import FileFacts, Floors, Kind, Known, VersionUse
from belljar.audit.floors.glibc import GlibcVersion
from belljar.audit.floors.series import gcc_of
from belljar.audit.isa import Effort
from belljar.audit.policy import ANYTHING, InterpreterRule, Libc, Policy, Waiver
from belljar.audit.report import Cause, Floor, Library, Report
from belljar.audit.run import audit
from belljar.audit.users import Users, users_of, with_users

__all__ = [
    "ANYTHING",
    "Cause",
    "Effort",
    "FileFacts",
    "Finding",
    "Floor",
    "Floors",
    "GlibcVersion",
    "InterpreterRule",
    "Kind",
    "Known",
    "Libc",
    "Library",
    "Policy",
    "Report",
    "Severity",
    "Users",
    "VersionUse",
    "Waiver",
    "audit",
    "gcc_of",
    "users_of",
    "with_users",
]
