"""The picture of needed libraries: DOT, SVG, and the page that has it."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from belljar.audit import FileFacts, Finding, Kind, Policy, Report, Severity, VersionUse
from belljar.report.graph import Graph, Node, State, graph_of, to_dot
from belljar.report.html import FILES_LIMIT, to_html
from belljar.report.svg import draw

VOID = {"meta", "br", "link", "img", "hr", "input"}


def facts(path, *needed, kind=Kind.EXECUTABLE, soname=None, glibc=""):
    use = VersionUse(library="libc.so.6", version=f"GLIBC_{glibc}", weak=False, required=True, symbols=("f",))
    return FileFacts(
        path=path,
        kind=kind,
        arch="x86_64",
        interpreter=None,
        needed=needed,
        soname=soname,
        rpath=(),
        runpath=(),
        versions=(use,) if glibc else (),
        defines_glibc=False,
        kernel=None,
        build_id=None,
        leaks=(),
    )


def report(*files, findings=(), paths=("tree",)):
    return Report(paths=paths, policy=Policy(), files=files, findings=findings)


TREE = (
    facts("tree/bin/a", "libx.so.1", "libc.so.6", glibc="2.34"),
    facts("tree/bin/b", "libx.so.1", "libc.so.6", glibc="2.17"),
    facts("tree/bin/c", "libc.so.6", glibc="2.4"),
    facts(
        "tree/lib/libx.so.1.2", "libz.so.1", "libc.so.6", kind=Kind.SHARED, soname="libx.so.1", glibc="2.14"
    ),
)


def labels(graph):
    return {(graph.nodes[a].label, graph.nodes[b].label) for a, b in graph.edges}


def test_equal_programs_are_one_and_libraries_are_found_by_soname():
    graph = graph_of(report(*TREE), missing={"libz.so.1"})
    assert labels(graph) == {
        ("a + 1", "libx.so.1.2"),
        ("a + 1", "libc.so.6"),
        ("c", "libc.so.6"),
        ("libx.so.1.2", "libz.so.1"),
        ("libx.so.1.2", "libc.so.6"),
    }
    states = {node.label: node.state for node in graph.nodes}
    assert states["libz.so.1"] is State.MISSING
    assert states["libc.so.6"] is State.LIBC
    assert states["libx.so.1.2"] is State.INSIDE
    assert graph_of(report(*TREE)).nodes != graph.nodes
    assert next(node.note for node in graph.nodes if node.label == "a + 1") == "2.34"


def test_dot_names_every_node_and_edge_and_quotes_what_would_break_it():
    graph = graph_of(report(*TREE, facts('tree/q"\\\n\x1b', 'lib"q.so')))
    dot = to_dot(graph)
    assert len(re.findall(r"^  n\d+ \[", dot, re.MULTILINE)) == len(graph.nodes)
    assert len(re.findall(r"^  n\d+ -> n\d+;$", dot, re.MULTILINE)) == len(graph.edges)
    assert '"lib\\"q.so"' in dot
    assert "\x1b" not in dot
    assert re.sub(r'"(\\.|[^"\\])*"', "", dot).count('"') == 0


def boxes(svg):
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    return {
        group.findtext(f"{space}text"): tuple(
            float(group.find(f"{space}rect").get(name)) for name in ("x", "y", "width", "height")
        )
        for group in root.iter(f"{space}g")
    }


def test_the_picture_is_well_formed_and_who_needs_is_left_of_what_is_needed():
    drawn = boxes(draw(graph_of(report(*TREE))).svg)
    assert set(drawn) == {"a + 1", "libx.so.1.2", "libz.so.1", "c"}
    assert drawn["a + 1"][0] < drawn["libx.so.1.2"][0] < drawn["libz.so.1"][0]


def chain(count, fan=3):
    """Return files each of which needs the next few."""
    return tuple(
        facts(
            f"tree/lib{n}.so",
            *(f"lib{m}.so" for m in range(n + 1, min(n + 1 + fan, count))),
            kind=Kind.SHARED,
        )
        for n in range(count)
    )


@pytest.mark.parametrize("files", [TREE, chain(12), chain(40, 1), chain(30, 29)])
def test_no_two_boxes_touch_and_all_are_within_the_picture(files):
    svg = draw(graph_of(report(*files))).svg
    drawn = list(boxes(svg).values())
    root = ElementTree.fromstring(svg)
    width, height = float(root.get("width")), float(root.get("height"))
    for number, (x, y, w, h) in enumerate(drawn):
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        for ox, oy, ow, oh in drawn[:number]:
            assert x + w <= ox or ox + ow <= x or y + h <= oy or oy + oh <= y


def test_cycles_are_drawn():
    files = (facts("tree/a.so", "b.so"), facts("tree/b.so", "c.so"), facts("tree/c.so", "a.so", "c.so"))
    assert len(boxes(draw(graph_of(report(*files))).svg)) == 3


def test_a_big_tree_gives_a_bounded_picture_in_which_nothing_lacks_what_it_needs():
    files = tuple(facts(f"tree/bin/p{n}", f"lib{n}.so", f"lib{n % 7}.so") for n in range(3000))
    picture = draw(graph_of(report(*files)), limit=50)
    drawn = boxes(picture.svg)
    assert len(drawn) <= 50
    assert picture.left_out > 5000
    for name in drawn:
        if name.startswith("p"):
            assert f"lib{int(name.split()[0][1:])}.so" in drawn
    missing = draw(graph_of(report(*files), missing={"lib2999.so"}), limit=50)
    assert "lib2999.so" in boxes(missing.svg)


def test_a_long_chain_does_not_recurse():
    nodes = tuple(Node(label=str(n), state=State.INSIDE, names=(str(n),)) for n in range(3000))
    graph = Graph(nodes=nodes, edges=tuple((n, n + 1) for n in range(2999)))
    assert draw(graph, limit=300).left_out == 2700


def test_the_same_report_gives_the_same_bytes():
    assert draw(graph_of(report(*TREE))) == draw(graph_of(report(*TREE)))
    assert to_html(report(*TREE)) == to_html(report(*TREE))


class Page(HTMLParser):
    """Checks that tags nest, and keeps tags, addresses and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.text, self.ids = [], set(), [], [], set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [v for k, v in attributes if k in ("href", "src", "xlink:href", "action")]
        self.ids |= {v for k, v in attributes if k == "id"}
        assert not [k for k, _ in attributes if k.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


HOSTILE = "tree/<script>alert(1)</script>\"'&\x1b[31m\udcff"


def test_the_page_is_well_formed_runs_nothing_and_loads_nothing():
    finding = Finding(
        rule="glibc-floor",
        severity=Severity.ERROR,
        path=HOSTILE,
        message="<b>&</b>",
        hint="<i>",
        symbols=("s",),
    )
    text = to_html(report(*TREE, facts(HOSTILE, "<lib>.so", glibc="2.36"), findings=(finding,)))
    text.encode()
    page = Page(text)
    assert not page.tags & {"script", "iframe", "object", "link", "img", "form", "b", "i"}
    assert page.addresses
    assert all(address.startswith("#") and address[1:] in page.ids for address in page.addresses)
    assert "url(" not in text and "@import" not in text and "\x1b" not in text
    assert "<script>alert(1)</script>" in "".join(page.text)


def test_the_page_says_verdict_floors_and_what_sets_them():
    passed = "".join(Page(to_html(report(*TREE))).text)
    assert "passed" in passed and "2.34" in passed and "bin/a" in passed
    finding = Finding(rule="arch", severity=Severity.ERROR, path="tree/bin/c", message="is for x")
    failed = Page(to_html(report(*TREE, findings=(finding,))))
    assert "failed: 1 error" in "".join(failed.text)


def test_the_worst_file_comes_first():
    finding = Finding(rule="arch", severity=Severity.ERROR, path="tree/bin/c", message="is for x")
    text = to_html(report(*TREE, findings=(finding,)))
    files = re.findall(r'<tr><th scope="row"><code>([^<]+)', text[text.index('id="files"') :])
    assert files == ["bin/c", "bin/a", "bin/b", "lib/libx.so.1.2"]


def test_the_page_of_a_big_tree_is_bounded():
    files = tuple(facts(f"tree/bin/p{n}", f"lib{n}.so", glibc="2.17") for n in range(5000))
    findings = tuple(
        Finding(rule="arch", severity=Severity.ERROR, path=file.path, message="is for x") for file in files
    )
    text = to_html(report(*files, findings=findings))
    assert len(text) < 500_000
    assert text.count("<tr>") < 2.5 * FILES_LIMIT
    assert "and 4600 more" in text


def test_the_page_of_nothing_is_a_page():
    assert "No ELF files" in "".join(Page(to_html(report())).text)
