"""The verdict from all code of a file, when nothing that runs at load time has given one.

*Strong* functions are those that a root (an export, an initialiser, the entry) reaches by calls alone
without passing a function that asks the CPU. If a file asks nowhere, a strong function of some level is
a firm need. If it does ask, a strong function may still be guarded, by a flag in a structure or an
argument, so the verdict is doubt with names. Everything else stands behind a check or a table of
pointers, and counts as dispatched.
"""

import itertools
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace

from belljar.audit.isa import graph as graphs
from belljar.audit.isa import twins
from belljar.audit.isa.code import Machine
from belljar.audit.isa.facts import By, Coverage, Evidence, Extension, IsaFacts, Tier
from belljar.audit.isa.graph import Edges, Graph
from belljar.audit.isa.image import FUNCTION, Image
from belljar.audit.isa.load import LoadProof
from belljar.audit.isa.proof import Budget, Prover

NAMES_SHOWN = 20
SPREAD_FUNCTIONS = 200
SPREAD_SHARE = 0.20
SPREAD_SHARE_LOWEST = 0.04
PROOFS_TRIED = 500
TWINS_TRIED = 2000
"""Flags pick a few functions; where thousands are newer, the whole file was compiled so."""
CODE_LIMIT = 400 << 20
"""Above this many bytes of code only the proof from the load roots is tried."""
_CPUS = (
    *(
        "haswell",
        "broadwell",
        "skylake",
        "skylakex",
        "cooperlake",
        "cascadelake",
        "icelake",
        "sapphirerapids",
    ),
    *("sandybridge", "ivybridge", "nehalem", "westmere", "penryn", "prescott", "dunnington", "core2", "atom"),
    *("zen", "bulldozer", "piledriver", "steamroller", "excavator", "barcelona", "bobcat", r"opteron\w*"),
    *(r"neoverse\w*", "a64fx", r"armv[89]\w*", r"cortexa\d+", r"thunderx\w*"),
)
_SETS = (
    *(
        "s?sse[234]?[._]?[0-9]?",
        "avx[0-9]*",
        "fma[34]?",
        "bmi[12]?",
        r"x86[-_]64[-_]v[234]",
        "vaes",
        r"pclmul\w*",
    ),
    *("popcnt", "sha_?ni", "shaext", "aesni", "sve2?", "neon", "dotprod", "i8mm", "lse"),
)
_NAMED = re.compile(
    rf"(?<![A-Za-z])(?i:{'|'.join(_CPUS + _SETS)})(?![a-z])"
    r"|(?:Avx(?:2|512)?|AVX(?:2|512\w*)|Ssse3|SSSE3|S[Ss][Ee][34][12]?|Haswell)(?![a-z])"
)
"""Function names that say for which CPU they are, in C (`sum_avx2`) and in C++ (`SumAvx2`)."""
# Code for these is put into a library of its own, and chosen by another file (abseil's randen_hwaes).
_OPTIONAL = {"AES", "PMULL", "SHA", "SHA3", "CRC32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What all code needs: the bits of each function that has some, those of the gaps, sizes in bytes."""

    bits: dict[int, int]
    gap_bits: int
    coverage: Coverage

    @property
    def all_bits(self) -> int:
        """The bits of functions and gaps together."""
        found = self.gap_bits
        for bits in self.bits.values():
            found |= bits
        return found


def survey(image: Image, machine: Machine, facts: IsaFacts, loaded: LoadProof) -> IsaFacts:
    """Complete `facts`, which say what is proven at load time, by all that the code tells."""
    size = sum(end - start for start, end in image.code)
    if size > CODE_LIMIT:
        return replace(facts, note=f"{size >> 20} MB of code: only what runs at load time was decoded")
    decoded = decode(image, machine)
    facts = replace(facts, coverage=decoded.coverage)
    if not decoded.all_bits & ~machine.detection:
        return facts if loaded.level else replace(facts, tier=Tier.BASELINE)
    return _Verdict(image, machine, decoded).complete(facts, loaded)


def decode(image: Image, machine: Machine) -> Decoded:
    """Decode every function and every gap between functions."""
    found = {}
    described = 0
    for number, (start, end) in enumerate(image.functions.ranges):
        bits = machine.needs_of(start, end)
        described += end - start
        if bits:
            found[number] = bits
    gap_bits = gaps = 0
    for start, end in image.gaps:
        gap_bits |= machine.needs_of(start, end)
        gaps += end - start
    coverage = Coverage(described=described, gaps=gaps, decoded=described + gaps)
    return Decoded(bits=found, gap_bits=gap_bits, coverage=coverage)


class _Verdict:
    """The functions of one file, sorted by who reaches them."""

    def __init__(self, image: Image, machine: Machine, decoded: Decoded) -> None:
        self._image, self._machine, self._decoded = image, machine, decoded
        self._budget = Budget()
        graph = graphs.build(image, machine)
        detecting = {number for number, bits in decoded.bits.items() if bits & machine.detection}
        self._aware = graphs.aware(image, machine, graph, detecting)
        self._named = {number for number in decoded.bits if _NAMED.search(self._name(number))}
        self._detects = bool(
            self._aware
            or decoded.gap_bits & machine.detection
            or image.resolvers
            or any(graphs.is_detection(machine, name) for name in image.imports)
        )
        barred = self._aware | self._named
        roots = self._roots(graph)
        reached = self._reach(roots, graph.calls, barred)
        barred |= self._twins(graph, reached, self._newer(reached) - barred)
        self._reached = self._reach(roots, graph.calls, barred)
        self._open = self._newer(self._unguarded(graph, roots, barred)) - barred
        self._strong = self._newer(self._reached) - barred

    def _reach(self, starts: Iterable[int], edges: Iterable[Edges], barred: Set[int]) -> "array[int]":
        return graphs.reach(starts, edges, barred, count=len(self._image.functions))

    def _newer(self, reached: "array[int]") -> set[int]:
        """Return what of the functions with newer instructions is reached."""
        return {number for number in self._decoded.bits if reached[number] != graphs.UNREACHED}

    def _twins(self, graph: Graph, reached: "array[int]", strong: set[int]) -> set[int]:
        """Return those functions of `strong` of which every caller has a twin for older CPUs."""
        if len(strong) > TWINS_TRIED:
            return set()
        callers: dict[int, set[int]] = defaultdict(set)
        for number, known in graph.callers(strong).items():
            for source in known:
                if reached[source] != graphs.UNREACHED:
                    callers[source].add(number)
        acquitted = {
            source: twins.chosen(self._image, self._machine, source, called)
            for source, called in callers.items()
        }
        accused = {number for source, known in acquitted.items() for number in callers[source] - known}
        return {number for known in acquitted.values() for number in known} - accused

    def complete(self, facts: IsaFacts, loaded: LoadProof) -> IsaFacts:
        """Raise `facts` by firm needs, and add what is suspected or dispatched."""
        if not self._detects:
            facts = self._add_firm(facts)
        names = [name for name, _ in self._machine.levels]
        rank = names.index(facts.needs) + 1 if facts.needs in names else 0
        above = self._machine.levels[rank:]
        suspected, tier = self._suspect(rank)
        if facts.tier not in (Tier.CERTAIN, Tier.FIRM):
            facts = replace(facts, tier=tier)
        facts = replace(
            facts,
            suspected=suspected,
            dispatched=self._dispatched(above),
            extensions=self._extensions(loaded),
            functions=self._names(dict(self._machine.levels).get(suspected or "", 0)),
        )
        return self._weigh_extensions(facts)

    def _weigh_extensions(self, facts: IsaFacts) -> IsaFacts:
        """Let features outside the levels raise a verdict that the levels leave open."""
        tiers = {item.tier for item in facts.extensions}
        if facts.tier in (Tier.CERTAIN, Tier.FIRM) or not tiers & {Tier.FIRM, Tier.POSSIBLE}:
            return facts
        wanted = Tier.FIRM if Tier.FIRM in tiers else Tier.POSSIBLE
        if wanted == Tier.POSSIBLE and facts.tier not in (Tier.DISPATCHED, Tier.UNDECIDED):
            return facts
        bits = dict(self._machine.extensions())
        named = [item.name for item in facts.extensions if item.tier == wanted]
        if wanted == Tier.POSSIBLE:
            functions = self._names(sum(bits[name] for name in named))
            return replace(facts, tier=Tier.POSSIBLE, functions=functions)
        evidence = tuple(filter(None, (self._evidence(name, bits[name]) for name in named)))
        if not evidence:
            return replace(facts, tier=Tier.POSSIBLE)
        return replace(facts, tier=Tier.FIRM, by=By.NO_DETECTION, evidence=(*facts.evidence, *evidence))

    def _add_firm(self, facts: IsaFacts) -> IsaFacts:
        for name, bits in reversed(self._machine.levels):
            if facts.needs == name:
                return facts
            evidence = self._evidence(name, bits)
            if evidence is not None:
                return replace(
                    facts,
                    needs=name,
                    by=By.NO_DETECTION,
                    tier=Tier.FIRM,
                    evidence=(*facts.evidence, evidence),
                )
        return facts

    def _suspect(self, rank: int) -> tuple[str | None, Tier]:
        """Return the highest level above the proven one that code may need unguarded, and how likely."""
        above = self._machine.levels[rank:]
        count = len(self._image.functions)
        shares = [len(self._with(self._open, bits)) / max(count, 1) for _, bits in self._machine.levels]
        for place, (name, bits) in reversed(list(enumerate(above, rank))):
            lowest = place == 0 and len(shares) > 1
            share = shares[0] - shares[1] if lowest else shares[place]
            enough = share >= (SPREAD_SHARE_LOWEST if lowest else SPREAD_SHARE)
            if enough and count >= SPREAD_FUNCTIONS and self._with(self._strong, bits):
                return name, Tier.PROBABLE
        for name, bits in reversed(above):
            if self._with(self._strong, bits):
                return name, Tier.POSSIBLE
        if self._detects:
            return None, Tier.DISPATCHED
        suspected = next((name for name, bits in reversed(above) if bits & self._decoded.all_bits), None)
        return suspected, Tier.UNDECIDED

    def _dispatched(self, above: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
        """Count the functions that are not strong by the highest level that they need, if not proven."""
        if not self._detects:
            return ()
        counts: Counter[str] = Counter()
        for number, bits in self._decoded.bits.items():
            level = next((name for name, mask in reversed(above) if bits & mask), None)
            if level is not None and number not in self._strong:
                counts[level] += 1
        return tuple(sorted(counts.items()))

    def _extensions(self, loaded: LoadProof) -> tuple[Extension, ...]:
        found = []
        for name, bit in sorted(self._machine.extensions()):
            users = self._with(self._decoded.bits, bit)
            if not users:
                continue
            strong = users & self._strong
            tier = Tier.DISPATCHED if self._detects else Tier.UNDECIDED
            if strong:
                is_firm = not self._detects and not self._machine.levels and name not in _OPTIONAL
                tier = Tier.FIRM if is_firm else Tier.POSSIBLE
            if name in loaded.extensions:
                tier = Tier.CERTAIN
            found.append(Extension(name=name, tier=tier, functions=len(users)))
        return tuple(found)

    def _names(self, bits: int) -> tuple[str, ...]:
        numbers = sorted(self._with(self._strong, bits))[:NAMES_SHOWN]
        return tuple(map(self._name, numbers))

    def _evidence(self, need: str, bits: int) -> Evidence | None:
        """Show a firm need: a strong function that cannot return without, else any strong one."""
        strong = sorted(self._with(self._strong, bits))
        if not strong:
            return None
        functions = self._image.functions
        prover = Prover(self._image, self._machine, bits, self._budget)
        proofs = ((number, prover.prove(functions.starts[number])) for number in strong[:PROOFS_TRIED])
        number, found = next(((number, found) for number, found in proofs if found), (strong[0], ()))
        sites = found or self._machine.sites(functions.starts[number], functions.end(number), bits)[:1]
        chain = [number]
        while self._reached[chain[-1]] != graphs.START:
            chain.append(self._reached[chain[-1]])
        root, *rest = map(self._name, reversed(chain))
        return Evidence(
            need=need,
            root=root,
            chain=(*rest, *map(self._image.name_of, sites[:-1])),
            address=sites[-1],
            instruction=self._machine.text(sites[-1]),
        )

    def _with(self, numbers: Iterable[int], bits: int) -> set[int]:
        return {number for number in numbers if self._decoded.bits.get(number, 0) & bits}

    def _name(self, number: int) -> str:
        return self._image.name_of(self._image.functions.starts[number])

    def _roots(self, graph: Graph) -> set[int]:
        """Return where calls may come in from outside.

        Where the file asks the CPU, an export for a newer one that the file itself calls is exported by
        accident (SVML in numpy): who calls it here decides.
        """
        known = self._image.functions.known
        exported = {known.get(address, -1) for address in self._image.exported(FUNCTION)}
        if self._detects:
            called = itertools.chain.from_iterable(edges.targets for edges in graph.calls)
            exported -= set(filter(self._decoded.bits.__contains__, called))
        started = {known.get(root.address, -1) for root in self._image.roots()}
        return (exported | started) - {-1}

    def _unguarded(self, graph: Graph, roots: set[int], barred: set[int]) -> "array[int]":
        """Reach what something leads to which is neither aware nor named after a CPU."""
        tables = (*graph.calls, graph.mentions)
        is_start = bytearray(b"\1") * len(self._image.functions)
        for edges in tables:
            for number in edges.targets:
                is_start[number] = 0
        known = self._image.functions.known
        pointed = (known[address] for address in self._image.pointed() if address in known)
        for number in itertools.chain(roots, pointed):
            is_start[number] = 1
        return self._reach(itertools.compress(itertools.count(), is_start), tables, barred)
