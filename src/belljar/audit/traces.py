"""Ties and traits as findings (belljar.audit.ties finds them).

What is certain or likely to come from the builder's machine is noted; where the policy allows no paths
of the host, what is certain is an error, outside debug information and plain text, and unless it names a
source file: assertions and panics tell where they stand, and nothing is opened. What may be meant
for the machine it runs on is in the report, and no finding; nor is what the rules on the loader's paths
and on given paths (belljar.audit.checks) tell of ELF files already.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from belljar.audit.checks import Finding, Severity
from belljar.audit.machines import level
from belljar.audit.policy import Policy
from belljar.audit.ties import Certainty, Kind, Tie, TraitFound, Where, remedy_of
from belljar.placeholder import TAIL

if TYPE_CHECKING:
    from belljar.audit.probe import Probe

_LOADER = (Where.INTERPRETER, Where.RPATH, Where.RUNPATH, Where.NEEDED, Where.SONAME)
_IN_ELF = (*_LOADER, Where.LOADED, Where.DEBUG, Where.UNLOADED)
_HARMLESS = (Where.DEBUG, Where.UNLOADED, Where.TEXT, Where.RECORD)
_SOURCES = (".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".rs", ".go", ".f90", ".S", ".s", ".m", ".pyx")


def findings_of(ties: Iterable[Tie], policy: Policy) -> Iterator[Finding]:
    """Yield a finding for each tie that tells something."""
    for tie in ties:
        if tie.certainty is Certainty.POSSIBLE or tie.kind is Kind.HOST or _is_told_elsewhere(tie):
            continue
        is_error = not policy.host_paths and tie.certainty is Certainty.CERTAIN and not _is_harmless(tie)
        where = f"{tie.where} {tie.section}" if tie.section and tie.section != tie.where else tie.where
        yield Finding(
            rule="tie",
            severity=Severity.ERROR if is_error else Severity.NOTE,
            path=tie.path,
            message=f"names a {tie.kind} in {where} ({tie.count}x): {tie.text}",
            hint=remedy_of(tie),
            offset=tie.offset,
        )


def _is_harmless(tie: Tie) -> bool:
    return tie.where in _HARMLESS or (tie.where is Where.LOADED and tie.text.endswith(_SOURCES))


def _is_told_elsewhere(tie: Tie) -> bool:
    if TAIL in tie.text:  # a reference within belljar's store, which `scan` lists and installing rewrites
        return True
    if tie.kind is Kind.GIVEN:
        return tie.where in _IN_ELF and not tie.packed
    return tie.kind is Kind.LOCATION and tie.where in _LOADER


def findings_of_probe(probe: "Probe", policy: Policy) -> Iterator[Finding]:
    """Yield a finding for each CPU on which a command was stopped, an error where it is the declared one."""
    for run in probe.runs:
        if run.crash is not None:
            words = " ".join(probe.command)
            is_error = policy.isa is not None and level(run.level) >= level(policy.isa)
            yield Finding(
                rule="probe",
                severity=Severity.ERROR if is_error else Severity.NOTE,
                path=run.crash.path or probe.command[0],
                message=f"`{words}` met an illegal instruction on {run.level} ({run.model})",
                hint="compile it for the declared level (-march=...), or choose the code at run time",
                detail=(str(run.crash),),
            )


def findings_of_traits(path: str, traits: Iterable[TraitFound]) -> Iterator[Finding]:
    """Yield a finding for each trait that hardened systems refuse."""
    for found in traits:
        yield Finding(
            rule=found.trait,
            severity=Severity.NOTE,
            path=path,
            message=f"{found.trait.replace('-', ' ')}: {found.evidence}",
            hint=found.hint,
        )
