"""A sandbox is a value: it can be printed, stored, read back, and is refused when it makes no sense."""

import copy
import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.sandbox import (
    Bind,
    Devices,
    Directory,
    File,
    Policy,
    Proc,
    Sandbox,
    SandboxError,
    Symlink,
    Tmpfs,
    Trace,
)
from belljar.sandbox.spec import Spec

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
PATH = st.lists(st.text("abc.-", min_size=1, max_size=4), max_size=4).map(lambda parts: "/" + "/".join(parts))
OPERATIONS = st.one_of(
    st.builds(Bind, source=TEXT, target=PATH, writable=st.booleans()),
    st.builds(Tmpfs, target=PATH, mode=st.integers(0, 0o1777)),
    st.builds(Proc),
    st.builds(Devices, target=PATH),
    st.builds(Directory, target=PATH),
    st.builds(Symlink, target=PATH, link=TEXT),
    st.builds(File, target=PATH, text=TEXT),
)
BOXES = st.builds(
    Sandbox,
    operations=st.lists(OPERATIONS, max_size=5).map(tuple),
    env=st.dictionaries(TEXT, TEXT, max_size=3),
    umask=st.integers(0, 0o777),
    nested=st.booleans(),
)
POLICIES = st.builds(
    Policy,
    trace=st.sampled_from(Trace),
    epoch=st.none() | st.integers(0, 2**33),
    seed=st.none() | TEXT,
    release=st.none() | TEXT,
    processors=st.none() | st.integers(1, 64),
    memory=st.none() | st.integers(1 << 20, 1 << 59),
    listing=st.none() | TEXT,
    denied=st.lists(TEXT, max_size=2).map(tuple),
)
EVERY = Sandbox(
    operations=(
        Bind(source="/usr", target="/usr"),
        Bind(source="/a", target="/b", writable=True),
        Tmpfs(target="/tmp"),
        Proc(),
        Devices(),
        Directory(target="/build"),
        Symlink(target="/bin", link="usr/bin"),
        File(target="/etc/passwd", text="x\udcff\n"),
    ),
    env={"PATH": "/bin"},
)


@settings(max_examples=30, deadline=None)
@given(BOXES, st.none() | POLICIES)
def test_what_is_printed_reads_back_equal(box, policy):
    spec = Spec(sandbox=box, policy=policy)
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.describe().splitlines()[: len(box.describe().splitlines())] == box.describe().splitlines()


def test_undecodable_text_survives_printing():
    assert Spec.from_json(Spec(sandbox=EVERY).to_json()) == Spec(sandbox=EVERY)


@settings(max_examples=30, deadline=None)
@given(BOXES)
def test_shallow_targets_come_first_and_the_root_before_all(box):
    depths = [len([part for part in operation.target.split("/") if part]) for operation in box.ordered()]
    assert depths == sorted(depths)
    assert depths[0] == 0


def test_every_operation_is_described_in_one_line():
    lines = EVERY.describe().splitlines()
    assert lines[0] == "tmpfs / mode=755"
    assert "bind /usr -> /usr" in lines
    assert "bind-rw /a -> /b" in lines
    assert "file /etc/passwd 'x\\udcff\\n'" in lines
    assert len(lines) == len(EVERY.operations) + 1 + len(EVERY.env) + 2


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT,
        lambda x: st.lists(x) | st.dictionaries(TEXT, x),
        max_leaves=6,
    )
)
def test_any_other_json_is_refused_with_a_value_error(value):
    with pytest.raises(ValueError):
        Spec.from_json(json.dumps(value))


def mutations():
    """Yield the printed sandbox with one value replaced by one of a wrong type, or taken away."""
    printed = json.loads(Spec(sandbox=EVERY, policy=Policy(seed="x")).to_json())
    for name in printed["policy"]:
        for wrong in ([None], {}, 1.5, True):
            yield {**printed, "policy": {**printed["policy"], name: wrong}}
    yield {**printed, "policy": {**printed["policy"], "typo": 1}}
    for name in printed:
        yield {**printed, name: [None]}
        yield {**printed, name: None}
    for number, item in enumerate(printed["operations"]):
        for name in item:
            for wrong in (None, [], {}, 1.5):
                changed = copy.deepcopy(printed)
                changed["operations"][number][name] = wrong
                yield changed
        changed = copy.deepcopy(printed)
        changed["operations"][number]["typo"] = 1
        yield changed


@pytest.mark.parametrize("value", list(mutations()))
def test_a_value_of_a_wrong_type_is_refused(value):
    with pytest.raises(ValueError):
        Spec.from_json(json.dumps(value))


@pytest.mark.parametrize("target", ["", "usr", "//usr", "/usr/", "/a/../b", "/a/./b", "/a//b", "/a\0b"])
def test_a_target_that_is_not_absolute_and_normal_is_a_fault(target):
    assert list(Sandbox(operations=(Tmpfs(target="/tmp"),)).faults()) == []
    assert list(Sandbox(operations=(Tmpfs(target=target),)).faults()) != []


@pytest.mark.parametrize(
    "changes",
    [
        {"env": {"": "x"}},
        {"env": {"A=B": "x"}},
        {"env": {"A": "\0"}},
        {"hostname": "x" * 65},
        {"domain": "é" * 33},
        {"uid": -1},
        {"gid": 2**32 - 1},
        {"umask": 0o1000},
        {"operations": (Bind(source="/a\0", target="/a"),)},
    ],
)
def test_what_the_kernel_would_refuse_is_a_fault(changes):
    assert list(replace(EVERY, **changes).faults()) != []


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(SandboxError("step", "reason", hint="hint", number=5)))
    assert (str(error), error.step, error.reason, error.hint, error.number) == (
        "step: reason",
        "step",
        "reason",
        "hint",
        5,
    )
