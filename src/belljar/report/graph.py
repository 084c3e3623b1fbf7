"""Which file of a tree needs which library: as a graph, and the graph as DOT.

Nodes are files of the tree and the libraries that they need from elsewhere. Files that nobody needs and
that need the same are one node: hundreds of programs are a few dozen kinds. Whatever the tree, nothing is
left out here, nor in DOT; belljar.report.svg draws what fits on a page.
"""

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from belljar.audit import FileFacts, Kind, Report


class State(enum.StrEnum):
    """Where a node lies."""

    INSIDE = "in the tree"
    OUTSIDE = "from outside"
    LIBC = "of glibc"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Files or a library: `label` is short, `names` are the whole paths, `note` is a floor (own 2.36)."""

    label: str
    state: State
    names: tuple[str, ...] = ()
    note: str = ""
    program: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes, and by their numbers who needs whom."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]

    def states(self) -> tuple[State, ...]:
        """Return the states that occur."""
        return tuple(state for state in State if any(node.state is state for node in self.nodes))


_LINKED = (Kind.EXECUTABLE, Kind.SHARED, Kind.STATIC)


def graph_of(report: Report, *, missing: Collection[str] = ()) -> Graph:
    """Return the graph of what was audited; `missing` names libraries that nothing has (the closure's)."""
    files = [file for file in report.files if file.kind in _LINKED]
    by_name = _by_name(files)
    targets = {file.path: _targets(file, by_name) for file in files}
    used = {target for of in targets.values() for target in of}
    libc = {item.name for item in report.libraries if item.libc}
    groups: dict[tuple[str, ...], list[FileFacts]] = defaultdict(list)
    for file in files:
        # What others need stands for itself; of the rest, those with equal needs are one.
        alone = (file.path,) if file.path in used else ()
        groups[(*alone, "", file.kind, *sorted(targets[file.path]))].append(file)
    nodes, number = _nodes(groups.values(), used - targets.keys(), libc, frozenset(missing))
    edges = {
        (number[members[0].path], number[target])
        for members in groups.values()
        for target in targets[members[0].path]
        if number[members[0].path] != number[target]
    }
    return Graph(nodes=tuple(nodes), edges=tuple(sorted(edges)))


def _by_name(files: Iterable[FileFacts]) -> Mapping[str, str]:
    """Map file names and sonames to paths; where several have one, the first."""
    found: dict[str, str] = {}
    for file in files:
        for name in (file.soname, PurePath(file.path.rpartition("!")[2]).name):
            if name:
                found.setdefault(name, file.path)
    return found


def _targets(file: FileFacts, by_name: Mapping[str, str]) -> frozenset[str]:
    return frozenset(by_name.get(PurePath(name).name, name) for name in file.needed)


def _nodes(
    groups: Iterable[list[FileFacts]], outside: Iterable[str], libc: Collection[str], missing: Collection[str]
) -> tuple[list[Node], dict[str, int]]:
    nodes: list[Node] = []
    number: dict[str, int] = {}
    for members in groups:
        number.update((file.path, len(nodes)) for file in members)
        nodes.append(_node_of(members))
    for name in sorted(outside):
        number[name] = len(nodes)
        state = State.MISSING if name in missing else State.LIBC if name in libc else State.OUTSIDE
        nodes.append(Node(label=name, state=state, names=(name,)))
    return nodes, number


def _node_of(members: list[FileFacts]) -> Node:
    first = PurePath(members[0].path.rpartition("!")[2]).name
    floor = max((file.floor for file in members if file.floor), default=None)
    own = members[0].sealed.glibc if members[0].sealed is not None else None
    return Node(
        label=first if len(members) == 1 else f"{first} + {len(members) - 1}",
        state=State.INSIDE,
        names=tuple(file.path for file in members),
        note=str(floor) if floor else f"own {own}" if own else "",
        program=members[0].kind is not Kind.SHARED,
    )


_STYLES = {
    State.INSIDE: 'color="#2f6f4f", fillcolor="#e3f1e8"',
    State.OUTSIDE: 'color="#a06a00", fillcolor="#fdf0d5"',
    State.LIBC: 'color="#777777", fillcolor="#eeeeee"',
    State.MISSING: 'color="#b3261e", fillcolor="#fbe4e2", penwidth=2',
}


def to_dot(graph: Graph, *, title: str = "needed libraries") -> str:
    """Return the graph in Graphviz' language."""
    lines = [
        f"digraph {_quoted(title)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11];',
        '  edge [color="#888888", arrowsize=0.6];',
    ]
    for number, node in enumerate(graph.nodes):
        label = node.label + (f"\nglibc {node.note}" if node.note else "")
        tooltip = "\n".join(node.names[:_NAMES_SHOWN])
        lines.append(
            f"  n{number} [label={_quoted(label)}, tooltip={_quoted(tooltip)}, {_STYLES[node.state]}];"
        )
    lines += [f"  n{one} -> n{other};" for one, other in graph.edges]
    return "\n".join([*lines, "}", ""])


_NAMES_SHOWN = 40


def _quoted(text: str) -> str:
    """Return a DOT string; only quotes and backslashes mean something in it."""
    plain = "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
