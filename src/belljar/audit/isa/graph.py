"""Who calls whom, and who asks the CPU before: the call graph of a whole file.

Edges come from a search for the bytes of calls, jumps and address operands. A chance match that
points at the very first byte of a function is rare enough (function starts / 2^32).

A large file has a million edges, so they lie in arrays of numbers: what leads from one function comes
one after the other, since code is searched in the order of its addresses.

A function is *aware* when it asks the CPU, reads a variable that such a function filled, or calls a
small function that does. The caps matter: without them one allocator's cached feature test makes
most of a large library aware.
"""

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from belljar.audit.isa.code import Machine
from belljar.audit.isa.image import NOTHING, Image

GETTER_SIZE = 400
GETTER_CALLERS = 200
VARIABLE_READERS = 1500
UNREACHED, START = -2, -1
"""What `reach` says of a function that is not reached, and of one that it starts with."""
_SLOTS_LIMIT = 100_000
"""How many addresses that are no function's are known at a time."""
_NOTHING, _ASKS = -1, -2

DETECTION_NAMES = frozenset(
    (
        *("__cpu_model", "__cpu_features2", "__cpu_indicator_init", "__x86_get_cpuid_feature_leaf"),
        *("__x86_get_cpu_features", "_rtld_global_ro", "OPENSSL_ia32cap_P", "OPENSSL_cpuid_setup"),
        *("av_get_cpu_flags", "npy_cpu_have", "__aarch64_have_lse_atomics", "__aarch64_cpu_features"),
        *("__init_cpu_features", "__init_cpu_features_resolver"),
    )
)
_DETECTION_PREFIXES = ("cpuinfo_", "av_cpu_", "ff_cpu_")


def is_detection(machine: Machine, name: str) -> bool:
    """Whether a symbol of that name tells what the CPU can do."""
    return name in DETECTION_NAMES or name in machine.detection_names or name.startswith(_DETECTION_PREFIXES)


class Edges:
    """To which functions each function leads, by number; put in by rising sources."""

    def __init__(self) -> None:
        self._firsts = array("Q")
        self.targets = array("I")

    def put(self, source: int, found: Iterable[int]) -> None:
        """Add what leads from the last source, or from one behind it."""
        self._firsts.extend([len(self.targets)] * (source + 1 - len(self._firsts)))
        self.targets.extend(found)

    def of(self, source: int) -> Sequence[int]:
        """Return where a function leads."""
        if source >= len(self._firsts):
            return ()
        end = self._firsts[source + 1] if source + 1 < len(self._firsts) else len(self.targets)
        return self.targets[self._firsts[source] : end]

    def into(self, wanted: Set[int]) -> Iterator[tuple[int, int]]:
        """Yield source and target of all edges that lead to one of these functions."""
        for place, target in enumerate(self.targets):
            if target in wanted:
                yield bisect_right(self._firsts, place) - 1, target


@dataclass(frozen=True, slots=True)
class Graph:
    """Edges between functions by number: `calls` (direct, by slots), `mentions` (address taken)."""

    calls: tuple[Edges, Edges]
    mentions: Edges
    asking: frozenset[int]
    """Functions that use another file's detection."""
    sources: "array[int]"
    targets: "array[int]"
    """Which function has an operand at which address, one pair per operand that is a variable."""

    def callers(self, wanted: Set[int]) -> dict[int, set[int]]:
        """Return who calls each of these functions."""
        found: dict[int, set[int]] = defaultdict(set)
        for edges in self.calls:
            for source, target in edges.into(wanted):
                found[target].add(source)
        return found


def build(image: Image, machine: Machine) -> Graph:
    """Collect the edges of a whole file."""
    asking: set[int] = set()
    direct = _jumps(image, machine, asking)
    indirect, mentions = Edges(), Edges()
    sources, targets = array("I"), array("Q")
    known, (low, high) = image.functions.known, image.writable
    slots = _Slots(image, machine, lambda address: address)
    source, begin, stop = -1, 0, 0
    for at, target in machine.operands():
        if not low <= target < high and target not in known:
            continue
        if not begin <= at < stop:
            source, begin, stop = image.functions.around(at)
        if source < 0:
            continue
        if target in known:
            _put(mentions, source, {known[target]})
            continue
        number = slots[target]
        if number >= 0:
            _put(indirect, source, {number})
        elif number == _ASKS:
            asking.add(source)
        sources.append(source)
        targets.append(target)
    return Graph((direct, indirect), mentions, frozenset(asking), sources, targets)


def _jumps(image: Image, machine: Machine, asking: set[int]) -> Edges:
    """Collect the calls and jumps that name where they lead; one function's are held as a set at a time."""
    edges, known = Edges(), image.functions.known
    stubs = _Slots(image, machine, machine.slot_of_stub)
    source, begin, stop = -1, 0, 0
    found: set[int] = set()
    for at, target in machine.jumps():
        if not begin <= at < stop:
            _put(edges, source, found)
            source, begin, stop = image.functions.around(at)
            found = set()
        if target in known:
            found.add(known[target])
        elif source >= 0 and not begin <= target < stop:
            number = stubs[target]
            if number >= 0:
                found.add(number)
            elif number == _ASKS:
                asking.add(source)
    _put(edges, source, found)
    return edges


def _put(edges: Edges, source: int, found: set[int]) -> None:
    found.discard(source)
    if source >= 0 and found:
        edges.put(source, found)


class _Slots(dict[int, int]):
    """What addresses lead to: a function of this file, _ASKS for another file's detection, or _NOTHING."""

    def __init__(self, image: Image, machine: Machine, slot_of: Callable[[int], int]) -> None:
        super().__init__()
        self._image, self._machine, self._slot_of = image, machine, slot_of

    def __missing__(self, address: int) -> int:
        """Look, and remember; only chance matches are so many that all is forgotten."""
        if len(self) >= _SLOTS_LIMIT:
            self.clear()
        found = self[address] = self._find(self._slot_of(address))
        return found

    def _find(self, slot: int) -> int:
        target, name = self._image.resolve(slot) if slot else NOTHING
        if target in self._image.functions.known:
            return self._image.functions.known[target]
        return _ASKS if name and is_detection(self._machine, name) else _NOTHING


def aware(image: Image, machine: Machine, graph: Graph, detecting: Iterable[int]) -> set[int]:
    """Return the functions that ask the CPU, themselves or through a variable or a small getter."""
    functions = image.functions

    def is_small(number: int) -> bool:
        return functions.end(number) - functions.starts[number] <= GETTER_SIZE

    askers = (
        set(detecting)
        | graph.asking
        | {functions.known[address] for address in image.resolvers if address in functions.known}
    )
    few = [known for known in graph.callers(askers).values() if len(known) <= GETTER_CALLERS]
    fillers = askers | {caller for known in few for caller in known if is_small(caller)}
    variables: set[int] = set()
    for number in fillers:
        variables |= machine.filled(functions.starts[number], functions.end(number))
    readers = defaultdict(set)
    for source, target in zip(graph.sources, graph.targets, strict=True):
        if target in variables:
            readers[target].add(source)
    found = askers | {
        source for known in readers.values() if len(known) <= VARIABLE_READERS for source in known
    }
    getters = graph.callers({number for number in found if is_small(number)})
    return found | {caller for known in getters.values() if len(known) <= GETTER_CALLERS for caller in known}


def reach(starts: Iterable[int], edges: Iterable[Edges], barred: Set[int], *, count: int) -> "array[int]":
    """Return for each function from which it is reached, START or UNREACHED; nothing past `barred`."""
    tables = tuple(edges)
    found = array("i", [UNREACHED]) * count
    todo = array("I")
    for number in starts:
        if found[number] == UNREACHED:
            found[number] = START
            todo.append(number)
    while todo:
        number = todo.pop()
        if number in barred:
            continue
        for table in tables:
            for following in table.of(number):
                if found[following] == UNREACHED:
                    found[following] = number
                    todo.append(following)
    return found
