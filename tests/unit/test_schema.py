"""Reading TOML: every problem at once, each with its key and line."""

import os
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.errors import InputError
from belljar.schema import Document, SchemaError, dotted, locate

SAMPLE = '''\
# a comment with [brackets] and key = 1
title = "x"
"quoted key".inner = 1 # [no.header]
text = """
[not.a.header]
key = 1 \\""" still
"""
raw = \'\'\'
[nor.this]
quotes at the end: \'\'\'\'\'

[one]
list = [
  "a",  # ]
  { b = 1, c = [ 2,
    3 ] },
]
[one.two."thr.ee"]
x = 2024-01-01T00:00:00Z
[[many]]
a = 1
[many.sub]
b = 2
[[many]]
a = 3
inline = { deep.er = 1, other = "}" }
'''


def complain(text):
    with pytest.raises(SchemaError) as caught:
        Document(text, "f.toml")
    return caught.value


def test_every_key_is_found_on_its_line():
    lines = locate(SAMPLE)
    found = {dotted(key): line for key, line in lines.items()}
    assert found == {
        "title": 2,
        '"quoted key"': 3,
        '"quoted key".inner': 3,
        "text": 4,
        "raw": 8,
        "one": 12,
        "one.list": 13,
        "one.list[0]": 14,
        "one.list[1]": 15,
        "one.list[1].b": 15,
        "one.list[1].c": 15,
        "one.list[1].c[0]": 15,
        "one.list[1].c[1]": 16,
        "one.two": 18,
        'one.two."thr.ee"': 18,
        'one.two."thr.ee".x': 19,
        "many": 20,
        "many[0]": 20,
        "many[0].a": 21,
        "many[0].sub": 22,
        "many[0].sub.b": 23,
        "many[1]": 24,
        "many[1].a": 25,
        "many[1].inline": 26,
        "many[1].inline.deep": 26,
        "many[1].inline.deep.er": 26,
        "many[1].inline.other": 26,
    }


def paths(value, key=()):
    """Every key path of parsed TOML."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*key, name)
        yield from paths(inner, (*key, name))


def test_the_locator_knows_exactly_the_keys_that_the_parser_knows():
    assert set(locate(SAMPLE)) == set(paths(tomllib.loads(SAMPLE)))
    assert locate(SAMPLE.replace("\n", "\r\n")) == locate(SAMPLE)


TOML_PIECES = st.lists(
    st.sampled_from(
        [
            "a",
            "b",
            ".",
            "=",
            "=",
            "\n",
            "\n",
            "[",
            "]",
            "{",
            "}",
            ",",
            '"',
            "'",
            '"""',
            "'''",
            "\\",
            "#",
            " ",
            "1",
        ]
    ),
    max_size=40,
).map("".join)


@pytest.mark.parametrize("text", ["a = [}", "a = [1, }", "a = { b = [}", "a = [[}]"])
def test_the_locator_ends_where_a_value_is_missing(text):
    assert ("a",) in locate(text)


@settings(max_examples=150, deadline=None)
@given(TOML_PIECES)
def test_the_locator_agrees_with_the_parser_on_any_text(text):
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        locate(text)  # must end, whatever the text is
        return
    assert set(locate(text)) == set(paths(data))


VALUES = st.sampled_from(
    ['"x"', "1", "'''\na = 1\n[t]'''", '"""\n\\"""\n"""', "[1,\n 2]", "{ k = 1 }", "true"]
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), VALUES), max_size=12))
def test_lines_are_right_whatever_stands_in_between(items):
    text, want, table = "", {}, ()
    for number, (opens_table, value) in enumerate(items):
        if opens_table:
            table = (f"t{number}",)
            want[table] = text.count("\n") + 1
            text += f"[t{number}]\n"
        want[(*table, f"k{number}")] = text.count("\n") + 1
        text += f"k{number} = {value} # note\n"
    found = locate(text)
    assert {key: found[key] for key in want} == want


def test_a_syntax_error_has_its_line():
    assert complain("a = 1\nb = ?\n").issues[0].line == 2
    assert complain("a = 1\n\nb = [1,\n").issues[0].line == 3
    assert "f.toml:2: " in str(complain("a = 1\na = 2\n"))


def test_deep_nesting_is_refused_in_words():
    assert "deep" in str(complain("a = " + "[" * 100_000))


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    path = tmp_path / "f.toml"
    path.write_bytes(b'a = "x"\nb = "\xff"\n')
    with pytest.raises(SchemaError, match=r"f\.toml:2: not UTF-8 \(byte 0xff\)"):
        Document.read(path)


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        Document.read(tmp_path / "none")
    with pytest.raises(InputError, match="Is a directory"):
        Document.read(tmp_path)


def test_all_problems_are_reported_together():
    document = Document('[package]\nnmae = "x"\nversion = 2\n[extra]\nlist = ["a", 3]\n', "f.toml")
    package = document.root.table("package")
    assert (package.text("name"), package.text("version")) == ("", "")
    assert document.root.table("extra").texts("list") == ("a", "")
    with pytest.raises(SchemaError) as caught:
        document.finish()
    assert [(issue.line, issue.key, issue.message) for issue in caught.value.issues] == [
        (1, "package.name", "missing"),
        (2, "package.nmae", "unknown key; did you mean 'name'?"),
        (3, "package.version", "should be a string, is a number"),
        (5, "extra.list[1]", "should be a string, is a number"),
    ]
    assert str(caught.value).startswith("f.toml: 4 problems\n  line 1: package.name: missing\n")


def test_a_good_document_reads_as_it_is():
    document = Document('a = "x"\nb = false\n[c]\nd = "e"\n', "f.toml")
    root = document.root
    assert (root.text("a"), root.flag("b", default=True), root.text_values("c")) == ("x", False, {"d": "e"})
    document.finish()


def test_a_boolean_is_not_a_number_nor_a_number_a_boolean():
    document = Document("a = 1", "f.toml")
    document.root.flag("a", default=False)
    with pytest.raises(SchemaError, match="should be true or false, is a number"):
        document.finish()


def test_an_unknown_key_that_is_near_none_lists_those_that_are_known():
    document = Document("[policy]\nfloor = 1\n", "f.toml")
    assert "glibc" not in document.root
    document.root.text("name", "")
    with pytest.raises(SchemaError, match="unknown key; known are glibc, name"):
        document.finish()


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(InputError, match="named pipe"):
        Document.read(tmp_path / "pipe.toml")
