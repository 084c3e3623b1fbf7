"""Who calls whom, and who asks the CPU before: the call graph of a whole file.

Edges come from a search for the bytes of calls, jumps and address operands. A chance match that
points at the very first byte of a function is rare enough (function starts / 2^32).

A function is *aware* when it asks the CPU, reads a variable that such a function filled, or calls a
small function that does. The caps matter: without them one allocator's cached feature test makes
most of a large library aware.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from belljar.audit.isa.code import Machine
from belljar.audit.isa.image import Image

GETTER_SIZE = 400
GETTER_CALLERS = 200
VARIABLE_READERS = 1500

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


Edges = dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Graph:
    """Edges between functions by number: `calls` (jumps too), and `mentions` (address taken)."""

    calls: Edges
    mentions: Edges
    asking: frozenset[int]
    """Functions that use another file's detection."""
    sources: "array[int]"
    targets: "array[int]"
    """Which function has an operand at which address, one pair per operand that is no constant."""


def build(image: Image, machine: Machine) -> Graph:
    """Collect the edges of a whole file; functions come one after the other, so few sets live at a time."""
    known, (low, high) = image.functions.known, image.writable
    calls: Edges = {}
    mentions: Edges = {}
    asking = set()
    sources, targets = array("Q"), array("Q")
    slots: dict[int, tuple[int, str]] = {}
    source = -1
    begin = stop = 0
    called: set[int] = set()
    mentioned: set[int] = set()
    for at, target, is_call in machine.references():
        if not begin <= at < stop:
            _put(calls, source, called)
            _put(mentions, source, mentioned)
            source, begin, stop = image.functions.around(at)
            called, mentioned = set(), set()
        number = known.get(target)
        if number is not None:
            (called if is_call else mentioned).add(number)
            continue
        if not is_call and not low <= target < high:
            continue
        if target not in slots:
            slots[target] = _through_stub(image, machine, target) if is_call else image.resolve(target)
        address, name = slots[target]
        if address in known:
            called.add(known[address])
        elif name and is_detection(machine, name):
            asking.add(source)
        if not is_call and source >= 0:
            sources.append(source)
            targets.append(target)
    _put(calls, source, called)
    _put(mentions, source, mentioned)
    return Graph(calls, mentions, frozenset(asking - {-1}), sources, targets)


def _put(edges: Edges, source: int, found: set[int]) -> None:
    found.discard(source)
    if source >= 0 and found:
        edges[source] = (*edges.get(source, ()), *found)


def _through_stub(image: Image, machine: Machine, target: int) -> tuple[int, str]:
    """Return what a PLT entry leads to; nothing for an address that is none."""
    slot = machine.slot_of_stub(target)
    return image.resolve(slot) if slot else (0, "")


def aware(image: Image, machine: Machine, graph: Graph, detecting: Iterable[int]) -> set[int]:
    """Return the functions that ask the CPU, themselves or through a variable or a small getter."""
    functions = image.functions
    callers: dict[int, list[int]] = defaultdict(list)
    for source, called in graph.calls.items():
        for number in called:
            callers[number].append(source)

    def is_small(number: int) -> bool:
        return functions.end(number) - functions.starts[number] <= GETTER_SIZE

    askers = (
        set(detecting)
        | graph.asking
        | {functions.known[address] for address in image.resolvers if address in functions.known}
    )
    fillers = askers | {
        caller
        for number in askers
        if len(callers[number]) <= GETTER_CALLERS
        for caller in callers[number]
        if is_small(caller)
    }
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
    getters = [number for number in found if is_small(number) and len(callers[number]) <= GETTER_CALLERS]
    return found | {caller for number in getters for caller in callers[number]}


def reach(starts: Iterable[int], edges: Iterable[Edges], barred: set[int]) -> dict[int, int]:
    """Return what is reached from `starts`, each with its predecessor (-1: none); nothing past `barred`."""
    tables = tuple(edges)
    found = dict.fromkeys(starts, -1)
    todo = list(found)
    while todo:
        number = todo.pop()
        if number in barred:
            continue
        for table in tables:
            for following in table.get(number, ()):
                if following not in found:
                    found[following] = number
                    todo.append(following)
    return found
