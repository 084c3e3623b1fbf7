"""The published schema of the audit's JSON, held against what real audits print."""

import json
from pathlib import Path

import pytest

from belljar.audit import Effort, audit, policies
from belljar.audit.to_json import VERSION

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "audit-schema.json").read_text())
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}
KNOWN = {"$ref", "type", "enum", "const", "anyOf", "properties", "required", "items", "additionalProperties"}
TALK = {"description", "title", "$schema", "$defs"}


def problems(value, schema, where="$"):
    """Yield where a value breaks a schema: the part of JSON Schema that ours uses."""
    assert set(schema) <= KNOWN | TALK, f"the validator knows nothing of {set(schema) - KNOWN - TALK}"
    if "$ref" in schema:
        yield from problems(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    if "anyOf" in schema and all(list(problems(value, option, where)) for option in schema["anyOf"]):
        yield f"{where}: none of the alternatives"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r} is not {schema['const']!r}"
    if "type" in schema and not any(is_a(value, name) for name in listed(schema["type"])):
        yield f"{where}: {value!r} is not {schema['type']}"
        return
    if isinstance(value, dict):
        yield from (f"{where}.{name}: missing" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            part = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if part is None and "properties" in schema:
                yield f"{where}.{name}: not in the schema"
            elif part is not None:
                yield from problems(item, part, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from problems(item, schema["items"], f"{where}[{number}]")


def listed(names):
    return [names] if isinstance(names, str) else names


def is_a(value, name):
    if name == "null":
        return value is None
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def printed(report):
    return json.loads(json.dumps(report.to_json()))


@pytest.fixture(scope="module")
def value():
    """The JSON of an audit in which everything is switched on and something is wrong everywhere."""
    policy = policies.find("manylinux_2_5")
    return printed(audit([Path("/bin/ls"), Path("/bin/sh")], policy=policy, ties=True, root=Path("/")))


def test_a_whole_audit_is_as_the_schema_says(value):
    assert list(problems(value, SCHEMA)) == []
    assert value["version"] == SCHEMA["properties"]["version"]["const"] == VERSION


def test_the_audit_that_is_checked_has_something_of_everything(value):
    assert value["verdict"] == "fail"
    for part in ("files", "findings", "causes", "libraries", "closures", "distributions"):
        assert value[part], part
    assert all(file["isa"] and file["versions"] for file in value["files"])


@pytest.mark.parametrize("effort", [None, Effort.FULL])
def test_every_effort_is_as_the_schema_says(effort):
    assert list(problems(printed(audit([Path("/bin/sh")], effort=effort)), SCHEMA)) == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("verdict",), "passed"),
        (("floors", "glibc"), 2.17),
        (("files", 0, "needed"), None),
        (("findings", 0, "severity"), "warning"),
        (("extra",), 1),
    ],
)
def test_the_schema_refuses_what_is_wrong(value, path, wrong):
    broken = json.loads(json.dumps(value))
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = wrong
    assert list(problems(broken, SCHEMA))


def test_the_schema_refuses_what_is_missing(value):
    for name in SCHEMA["required"]:
        assert list(problems({key: item for key, item in value.items() if key != name}, SCHEMA)), name
