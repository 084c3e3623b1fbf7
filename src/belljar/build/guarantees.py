"""What an output must meet to become an artifact: the recipe's [portability], checked on the bytes."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from belljar.audit import Policy, Report, audit
from belljar.build import output
from belljar.build.prove import Proof
from belljar.build.refusal import GuaranteeError
from belljar.build.sandboxed import BUILD
from belljar.errors import InputError
from belljar.recipe import Recipe
from belljar.references import Table
from belljar.relocate import open_tree, scan
from belljar.store import StoreName
from belljar.types import Event, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was found in an output: references, what cannot be rewritten (in words), the audit's report.

    `proof` is what a second build showed, when one was asked for.
    """

    table: Table
    unsupported: tuple[str, ...]
    names: frozenset[str]
    report: Report
    proof: Proof | None = None


def examine(tree: Path, recipe: Recipe, name: StoreName, progress: Progress) -> Evidence:
    """Normalise and read an output whole and hold it against the recipe's guarantees.

    Raises InputError when there is nothing in it, GuaranteeError when a guarantee fails.
    """
    if output.normalise(tree) == 0 and not os.listdir(tree):
        raise InputError(
            f"{name.package}: the build script left nothing in $PREFIX",
            hint='give the prefix to the build, as in ./configure --prefix="$PREFIX"',
        )
    progress(Event(stage="open", subject=str(name)))
    open_tree(tree, progress=progress)
    progress(Event(stage="scan", subject=str(name)))
    found = scan(tree, progress=progress)
    unsupported = tuple(item.describe() for item in found.unsupported)
    progress(Event(stage="audit", subject=str(name)))
    report = _named(audit((tree,), policy=policy_of(recipe), progress=progress), tree, name)
    if not report.passed or (recipe.portability.relocatable and unsupported):
        raise GuaranteeError(
            f"{name.package}: the output does not meet what the recipe guarantees",
            report=report,
            unsupported=unsupported,
        )
    return Evidence(table=found.table, unsupported=unsupported, names=found.names, report=report)


def prove(evidence: Evidence, proof: Proof, recipe: Recipe, name: StoreName) -> Evidence:
    """Return the evidence with a proof; where it refutes the scan, the output cannot be moved.

    Raises GuaranteeError when the recipe guarantees that it can.
    """
    unsupported = evidence.unsupported + proof.refutations
    if recipe.portability.relocatable and unsupported:
        raise GuaranteeError(
            f"{name.package}: a second build under another prefix shows that the output cannot be moved",
            report=evidence.report,
            unsupported=unsupported,
        )
    return replace(evidence, unsupported=unsupported, proof=proof)


def _named(report: Report, tree: Path, name: StoreName) -> Report:
    """Return a report that speaks of the entry, not of the directory that it was staged in."""

    def named(path: str) -> str:
        return f"{name}{path.removeprefix(os.fspath(tree))}"

    return replace(
        report,
        paths=(str(name),),
        files=tuple(replace(item, path=named(item.path)) for item in report.files),
        findings=tuple(replace(item, path=named(item.path)) for item in report.findings),
    )


def policy_of(recipe: Recipe) -> Policy:
    """Return the audit policy that a recipe's guarantees amount to."""
    declared = recipe.portability
    return Policy.of(glibc=declared.glibc, isa=declared.isa, build_paths=(BUILD,))
