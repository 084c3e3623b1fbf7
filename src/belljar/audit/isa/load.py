"""What a file needs as soon as it is loaded: proofs from the functions that then run.

Those are initialisers, the functions by which Python and Java load a module, a program's entry and
its `main`. Only code on the way is decoded, so this costs little whatever the file's size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from belljar.audit.isa.code import Machine
from belljar.audit.isa.facts import Evidence
from belljar.audit.isa.image import Image, Root
from belljar.audit.isa.proof import Budget, Prover

ROOTS_LIMIT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProof:
    """The highest level that is proven ("" for none), the features that are, and why."""

    level: str
    extensions: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    note: str


def prove_load(image: Image, machine: Machine) -> LoadProof:
    """Prove what the functions need that run when the file is loaded or started."""
    roots = _roots(image, machine)
    budget = Budget()
    level, found, notes = "", [], []
    for name, bits in machine.levels:
        evidence, note = _prove(image, machine, roots, name, bits, budget)
        notes.append(note)
        if evidence is None:
            break
        level, found = name, [evidence]
    if not machine.levels:  # nothing has been decoded yet: see which features are met at all
        _prove(image, machine, roots, "", ~machine.detection, budget)
    extensions = []
    for name, bit in machine.extensions():
        evidence, note = _prove(image, machine, roots, name, bit, budget)
        notes.append(note)
        if evidence is not None:
            extensions.append(name)
            found.append(evidence)
    return LoadProof(
        level=level,
        extensions=tuple(extensions),
        evidence=tuple(found),
        note=next(filter(None, notes), ""),
    )


def _roots(image: Image, machine: Machine) -> tuple[Root, ...]:
    found = []
    for root in _limited(image.roots()):
        found.append(root)
        main = machine.main(root.address) if root.name == "entry" else 0
        if main:
            found.append(Root("main", main))
    return tuple(found)


def _limited(roots: Iterator[Root]) -> Iterator[Root]:
    for _ in range(ROOTS_LIMIT):
        root = next(roots, None)
        if root is None:
            return
        yield root


def _prove(
    image: Image, machine: Machine, roots: Sequence[Root], need: str, bits: int, budget: Budget
) -> tuple[Evidence | None, str]:
    """Return what shows that some root must run an instruction with one of the bits, and a note."""
    prover = Prover(image, machine, bits, budget)
    for root in roots:
        chain = prover.prove(root.address)
        if chain:
            *calls, site = chain
            evidence = Evidence(
                need=need,
                root=root.name,
                chain=tuple(image.name_of(address) for address in calls),
                address=site,
                instruction=machine.text(site),
            )
            return evidence, ""
    return None, "the search was cut short: too much code runs at load time" if prover.is_exhausted else ""
