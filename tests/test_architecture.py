"""The rules of CONTRIBUTING.md, checked on the source as it is."""

import ast
from pathlib import Path

SRC = Path(__file__).parent.parent / "src" / "belljar"

# A module imports from lower rows and from its own room only.
ROWS = [
    {"doors", "errors", "sandbox"},
    {"types"},
    {"checksums", "placeholder", "home", "proc", "rows", "schema", "splice"},
    {"fsys", "references"},
    {"elf", "store", "archive"},
    {"ldso"},
    {"recipe", "relocate", "audit"},
    {"seal", "stage"},
    {"build", "hermetic"},
    {"verify", "reproduce"},
    {"report"},
    {"cli", "api", "__init__"},
    {"__main__"},
]
# One door each: these may be imported in the named rooms only.
DOORS = {
    "subprocess": {"proc"},
    "ctypes": {"sandbox"},
    "urllib.request": {"recipe"},
    "socket": {"sandbox"},
    "click": {"cli"},
}
# Bytes in, values out.
PURE = {"elf": {"os", "io", "pathlib", "tempfile", "shutil", "logging"}}
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}
FUNCTION_LIMIT = 60
FILE_LIMIT = 500


def sources():
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        yield path, parts[0], ast.parse(path.read_text())


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_every_room_has_a_row():
    units = {unit for _, unit, _ in sources()}
    assert units - set(RANK) == set()


def test_imports_point_downwards():
    wrong = []
    for path, unit, tree in sources():
        for line, name in imported(tree):
            first, _, rest = name.partition(".")
            target = rest.split(".")[0]
            if first != "belljar" or target == unit or target not in RANK:
                continue
            if RANK[target] >= RANK[unit]:
                wrong.append(f"{path}:{line}: {name} is not below {unit}")
            if unit == "sandbox":
                wrong.append(f"{path}:{line}: the sandbox stands alone")
    assert wrong == []


def test_one_door_each():
    wrong = []
    for path, unit, tree in sources():
        for line, name in imported(tree):
            for door, rooms in DOORS.items():
                if (name == door or name.startswith(door + ".")) and unit not in rooms:
                    wrong.append(f"{path}:{line}: only {sorted(rooms)} may import {door}")
            if name.split(".")[0] in PURE.get(unit, ()):
                wrong.append(f"{path}:{line}: {unit} does no input or output")
    assert wrong == []


def test_only_the_command_line_prints_and_exits():
    wrong = []
    for path, unit, tree in sources():
        if unit == "cli" or path.stem == "__main__":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "print",
                "sys.exit",
                "exit",
                "input",
            }:
                wrong.append(f"{path}:{node.lineno}: {ast.unparse(node.func)}")
    assert wrong == []


def test_functions_and_files_are_short():
    wrong = []
    for path, _, tree in sources():
        lines = path.read_text().count("\n")
        if lines > FILE_LIMIT:
            wrong.append(f"{path}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LIMIT:
                    wrong.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    assert wrong == []
