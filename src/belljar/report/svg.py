"""A graph of libraries as SVG, drawn by ourselves: no other program, no network, the same bytes each time.

A layered drawing (Sugiyama's steps, made simple): who needs is left of what is needed; an edge over
several layers bends around the boxes between; the order within a layer follows the means of the neighbours.
Two things are left out, since every picture was a knot with them: glibc's own libraries, which
everything needs (a box names the glibc it needs instead), and edges that another way of edges implies.
Colours follow the reader's light or dark scheme; shapes and words say the same for those who see none.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from belljar.report.graph import Graph, Node, State

LIMIT = 90
"""How many boxes a readable picture has."""

_HEIGHT, _GAP, _COLUMN_GAP, _MARGIN, _CHAR = 24.0, 8.0, 70.0, 14.0, 6.7
_BEND_HEIGHT = 4.0
_LABEL_LIMIT = 34
_SWEEPS = 12
_LAST = 2.0
_CLASS = {State.INSIDE: "i", State.OUTSIDE: "o", State.LIBC: "c", State.MISSING: "m"}

STYLE = """
.bj-g{--i:#2f6f4f;--if:#e6f3ea;--o:#96650a;--of:#fdf1d8;--m:#b3261e;--mf:#fbe4e2;--t:#1b1f23;--e:#8a929b;
 font:12px ui-sans-serif,system-ui,sans-serif;background:transparent}
@media (prefers-color-scheme:dark){.bj-g{--i:#6fc596;--if:#173527;--o:#e3b04b;--of:#3a2d10;--m:#ff8a80;
 --mf:#4a1613;--t:#e8eaed;--e:#6d757e}}
.bj-g text{fill:var(--t)}
.bj-g .n{text-anchor:end;opacity:.72;font-size:10.5px}
.bj-g .l{opacity:.8;font-size:11px}
.bj-g path{fill:none;stroke:var(--e);stroke-width:1;opacity:.55}
.bj-g .i rect{fill:var(--if);stroke:var(--i)}
.bj-g .o rect{fill:var(--of);stroke:var(--o);stroke-dasharray:5 3}
.bj-g .m rect{fill:var(--mf);stroke:var(--m);stroke-width:2.5}
.bj-g .p rect{rx:11px}
@media print{.bj-g{--i:#2f6f4f;--if:#e6f3ea;--o:#96650a;--of:#fdf1d8;--m:#b3261e;--mf:#fbe4e2;--t:#000;
 --e:#777}}
"""

_ALONE = """.bj-g{background:#fff}
@media (prefers-color-scheme:dark){.bj-g{background:#14171a}}
@media print{.bj-g{background:#fff}}
"""


@dataclass(slots=True)
class _Box:
    """A node, or (`node` None) a bend of an edge, and where it is drawn."""

    node: Node | None
    layer: int
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0

    @property
    def height(self) -> float:
        return _HEIGHT if self.node else _BEND_HEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A drawing, and how many files and libraries it leaves out for want of room."""

    svg: str
    left_out: int


def draw(
    graph: Graph, *, title: str = "Needed libraries", standalone: bool = True, limit: int = LIMIT
) -> Picture:
    """Return the picture; with `standalone` as a file of its own, else as a part of a page with STYLE.

    At most about `limit` boxes are drawn, those that stand for most files and have most users; what
    is drawn is drawn with all that it needs.
    """
    nodes, edges = _shown(graph)
    nodes, edges, left_out = _bounded(nodes, edges, limit)
    forward = _reduced(len(nodes), _without_cycles(len(nodes), edges))
    boxes, chains = _layered(nodes, forward)
    layers = _ordered(boxes, chains)
    width, height = _place(layers, boxes, chains)
    more = f"{left_out} files and libraries more are not drawn" if left_out else ""
    svg = _draw(boxes, chains, width, height, title=title, more=more, standalone=standalone)
    return Picture(svg=svg, left_out=left_out)


def _bounded(
    nodes: list[Node], edges: list[tuple[int, int]], limit: int
) -> tuple[list[Node], list[tuple[int, int]], int]:
    """Keep the nodes that say most, each with all that it needs."""
    if len(nodes) <= limit:
        return nodes, edges, 0
    after, users = _after(edges), [0] * len(nodes)
    for one, other in edges:
        users[other] += len(nodes[one].names)
    broken = {one for one, other in edges if nodes[other].state is State.MISSING}
    ranked = sorted(
        (n for n in range(len(nodes)) if nodes[n].state is State.INSIDE),
        key=lambda n: (n not in broken, -max(users[n], len(nodes[n].names)), nodes[n].label),
    )
    kept: set[int] = set()
    for node in ranked:
        wanted = _reached(node, after, limit) | kept
        if len(wanted) <= limit:
            kept = wanted
    kept = kept or set(ranked[:limit])
    place = {old: new for new, old in enumerate(sorted(kept))}
    left_out = sum(len(nodes[n].names) for n in range(len(nodes)) if n not in kept)
    return (
        [nodes[n] for n in sorted(kept)],
        [(place[a], place[b]) for a, b in edges if a in place and b in place],
        left_out,
    )


def _reached(node: int, after: dict[int, list[int]], limit: int) -> set[int]:
    """Return a node and all that it leads to, or more than `limit` of it."""
    found, pending = {node}, [node]
    while pending and len(found) <= limit:
        for other in after.get(pending.pop(), ()):
            if other not in found:
                found.add(other)
                pending.append(other)
    return found


def _shown(graph: Graph) -> tuple[list[Node], list[tuple[int, int]]]:
    """Leave out glibc, and put files that need nothing else into one box."""
    kept = [n for n, node in enumerate(graph.nodes) if node.state is not State.LIBC]
    edges = [(a, b) for a, b in graph.edges if graph.nodes[b].state is not State.LIBC]
    linked = {end for edge in edges for end in edge}
    alone = [n for n in kept if n not in linked]
    order = [n for n in kept if n in linked]
    nodes = [graph.nodes[n] for n in order]
    if alone:
        nodes.append(_lonely([graph.nodes[n] for n in alone]))
    place = {old: new for new, old in enumerate(order)}
    return nodes, [(place[a], place[b]) for a, b in edges]


def _lonely(nodes: Sequence[Node]) -> Node:
    names = tuple(name for node in nodes for name in node.names)
    if len(nodes) == 1 and len(names) == 1:
        return nodes[0]
    note = max((node.note for node in nodes), key=lambda text: [int(x) for x in text.split(".") if x])
    label = f"{len(names)} files that need only glibc" if note else f"{len(names)} files that need nothing"
    return Node(
        label=label, state=State.INSIDE, names=names, note=note, program=all(node.program for node in nodes)
    )


def _without_cycles(count: int, edges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Drop the edges that lead back to where a walk came from; it does not recurse."""
    after = _after(edges)
    state = [0] * count
    kept = []
    for root in range(count):
        stack = [(root, iter(after[root]))] if not state[root] else []
        state[root] = state[root] or 1
        while stack:
            node, rest = stack[-1]
            for other in rest:
                if state[other] == 1:
                    continue
                kept.append((node, other))
                if state[other] == 0:
                    state[other] = 1
                    stack.append((other, iter(after[other])))
                    break
            else:
                state[node] = 2
                stack.pop()
    return sorted(kept)


def _after(edges: Iterable[tuple[int, int]]) -> defaultdict[int, list[int]]:
    found: defaultdict[int, list[int]] = defaultdict(list)
    for one, other in edges:
        found[one].append(other)
    return found


def _depths(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the longest way that leads to each node."""
    depth, waiting = [0] * count, [0] * count
    after = _after(edges)
    for _, other in edges:
        waiting[other] += 1
    ready = [n for n in range(count) if not waiting[n]]
    while ready:
        node = ready.pop()
        for other in after[node]:
            depth[other] = max(depth[other], depth[node] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    return depth


def _reduced(count: int, edges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Drop the edges whose end a longer way reaches too."""
    after = _after(edges)
    depth = _depths(count, edges)
    reach: list[set[int]] = [set() for _ in range(count)]
    for node in sorted(range(count), key=lambda n: -depth[n]):
        for other in after[node]:
            reach[node] |= {other} | reach[other]
    return [(a, b) for a, b in edges if not any(b in reach[other] for other in after[a] if other != b)]


def _layered(nodes: Sequence[Node], edges: Sequence[tuple[int, int]]) -> tuple[list[_Box], list[list[int]]]:
    """Return boxes in layers, and of each edge the boxes that it leads through: bends where it is long."""
    depth = _depths(len(nodes), edges)
    after, used = _after(edges), {b for _, b in edges}
    for number in range(len(nodes)):
        # Programs stand just before what they need, libraries as far to the left as they may.
        if number not in used and after[number]:
            depth[number] = min(depth[other] for other in after[number]) - 1
    boxes = [_Box(node, depth[number]) for number, node in enumerate(nodes)]
    chains = []
    bends: dict[tuple[int, int], int] = {}
    for one, other in edges:
        chain = [one]
        for layer in range(boxes[one].layer + 1, boxes[other].layer):
            # Edges to one library run together: that is what makes a busy picture readable.
            key = (other, layer)
            if key not in bends:
                bends[key] = len(boxes)
                boxes.append(_Box(None, layer))
            chain.append(bends[key])
        chains.append([*chain, other])
    return boxes, chains


def _ordered(boxes: Sequence[_Box], chains: Iterable[Sequence[int]]) -> list[list[int]]:
    """Return the boxes of each layer, ordered by the means of their neighbours in the next ones."""
    layers: list[list[int]] = [[] for _ in range(max((box.layer for box in boxes), default=0) + 1)]
    for number, box in enumerate(boxes):
        layers[box.layer].append(number)
    links = sorted({pair for chain in chains for pair in itertools.pairwise(chain)})
    right, left = _after(links), _after((b, a) for a, b in links)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            rank = {n: at / max(len(of), 1) for of in layers for at, n in enumerate(of)}
            near = left if down else right
            key = {n: sum(rank[m] for m in near[n]) / len(near[n]) if near[n] else rank[n] for n in layer}
            key |= {n: _LAST for n in layer if not left[n] and not right[n]}
            layer.sort(key=key.__getitem__)
    return layers


def _place(
    layers: Sequence[Sequence[int]], boxes: Sequence[_Box], chains: Iterable[Sequence[int]]
) -> tuple[float, float]:
    """Give every box its place; return the size of the whole."""
    x, tallest = _MARGIN, 0.0
    for layer in layers:
        width = max((_width(boxes[n]) for n in layer), default=0.0)
        y = _MARGIN
        for n in layer:
            boxes[n].x, boxes[n].y, boxes[n].width = x, y, width
            y += boxes[n].height + _GAP
        tallest = max(tallest, y)
        x += width + _COLUMN_GAP
    links = sorted({pair for chain in chains for pair in itertools.pairwise(chain)})
    right, left = _after(links), _after((b, a) for a, b in links)
    for layer in [*reversed(layers), *layers]:
        _settle(
            [boxes[n] for n in layer], [[boxes[m] for m in (*left[n], *right[n])] for n in layer], tallest
        )
    return x - _COLUMN_GAP + _MARGIN, tallest - _GAP + _MARGIN


def _settle(layer: Sequence[_Box], near: Sequence[Sequence[_Box]], height: float) -> None:
    """Move the boxes of a layer towards their neighbours as far as order and height allow."""
    floor = height - _GAP
    for box, others in zip(reversed(layer), reversed(near), strict=True):
        wanted = sum(o.y + o.height / 2 for o in others) / len(others) - box.height / 2 if others else floor
        box.y = min(max(wanted, box.y), floor - box.height)
        floor = box.y - _GAP
    ceiling = _MARGIN
    for box in layer:
        box.y = max(box.y, ceiling)
        ceiling = box.y + box.height + _GAP


def _width(box: _Box) -> float:
    if box.node is None:
        return 0.0
    note = len(box.node.note) + 3 if box.node.note else 0
    return (len(_short(box.node.label)) + note) * _CHAR + 18


def _short(label: str) -> str:
    half = _LABEL_LIMIT // 2
    return label if len(label) <= _LABEL_LIMIT else f"{label[: half + 2]}…{label[3 - half :]}"


def _draw(
    boxes: Sequence[_Box],
    chains: Sequence[Sequence[int]],
    width: float,
    height: float,
    *,
    title: str,
    more: str,
    standalone: bool,
) -> str:
    width, height = (max(width, _LEGEND_WIDTH), height + 2 * _HEIGHT) if standalone else (width, height)
    space = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    count = sum(box.node is not None for box in boxes)
    # In a page it shrinks to two thirds before it scrolls.
    size = f'width="{width:.0f}" height="{height:.0f}"'
    fit = f'style="width:100%;min-width:{width * 0.65:.0f}px;max-width:{width:.0f}px;height:auto"'
    opening = f'<svg{space} class="bj-g" role="img" viewBox="0 0 {width:.0f} {height:.0f}"'
    lines = [
        f"{opening} {size if standalone else fit}>",
        f"<title>{clean(title)}</title>",
        (
            f"<desc>{count} boxes, who needs left of what is needed; rounded: programs, dashed: from outside"
            " the tree, thick: missing. Edges that others imply, and glibc, are left out.</desc>"
        ),
    ]
    if standalone:
        lines.append(f"<style>{STYLE}{_ALONE}</style>")
    drawn = dict.fromkeys(pair for chain in chains for pair in itertools.pairwise(chain))
    lines += [_edge(boxes[a], boxes[b]) for a, b in drawn]
    lines += [_box(box) for box in boxes if box.node]
    if standalone:
        words = ". ".join(filter(None, (LEGEND, more)))
        lines.append(f'<text class="l" x="{_MARGIN}" y="{height - 14:.0f}">{clean(words)}</text>')
    return "\n".join([*lines, "</svg>", ""])


LEGEND = (
    "Rounded: programs. Dashed: libraries from outside the tree. Thick: missing."
    " The number is the glibc that a file needs"
)
_LEGEND_WIDTH = 760.0


def _edge(one: _Box, other: _Box) -> str:
    """Draw an edge between two layers; a bend is as wide as its column, so lines go straight through."""
    x1, y1 = one.x + (_width(one) if one.node else one.width), one.y + one.height / 2
    x2, y2 = other.x, other.y + other.height / 2
    start = f"M{x1:.0f} {y1:.1f}" + (f"H{one.x + one.width:.0f}" if one.node else "")
    x1 = one.x + one.width
    middle = (x1 + x2) / 2
    end = f"H{other.x + other.width:.0f}" if other.node is None else ""
    return f'<path d="{start}C{middle:.0f} {y1:.1f} {middle:.0f} {y2:.1f} {x2:.0f} {y2:.1f}{end}"/>'


def _box(box: _Box) -> str:
    node = box.node
    if node is None:
        return ""
    width = _width(box)
    middle = box.y + box.height / 2 + 4
    shown = node.names[:_NAMES_SHOWN]
    more = [f"and {len(node.names) - len(shown)} more"] if len(node.names) > len(shown) else []
    floor = [f"needs glibc {node.note}"] if node.note else []
    title = "\n".join([*shown, *more, node.state.value, *floor])
    note = f'<text class="n" x="{box.x + width - 8:.0f}" y="{middle:.1f}">{clean(node.note)}</text>'
    return (
        f'<g class="{_CLASS[node.state]}{" p" if node.program else ""}"><title>{clean(title)}</title>'
        f'<rect x="{box.x:.0f}" y="{box.y:.1f}" width="{width:.0f}" height="{box.height:.0f}" rx="3"/>'
        f'<text x="{box.x + 8:.0f}" y="{middle:.1f}">{clean(_short(node.label))}</text>'
        f"{note if node.note else ''}</g>"
    )


_NAMES_SHOWN = 30


_ODD = "\ufffe\uffff\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""No characters, and those that turn the direction of what stands beside them (Unicode, annex 9)."""


def clean(text: str) -> str:
    """Return text that XML and HTML take: escaped; what is no text, or turns its direction, as U+FFFD."""
    return escape("".join("\ufffd" if _is_odd(char) else char for char in text))


def _is_odd(char: str) -> bool:
    """Whether XML 1.0 has no such character, or a reader would see none."""
    is_control = (char < " " and char not in "\n\t") or "\x7f" <= char <= "\x9f"
    return is_control or "\ud800" <= char <= "\udfff" or char in _ODD
