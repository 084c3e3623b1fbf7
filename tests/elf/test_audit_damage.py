"""Whatever damage leaves readable can be audited, shown and written as JSON."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from test_elf_hostile import SAMPLES

from belljar.audit import Policy, Report
from belljar.audit.checks import check
from belljar.audit.facts import facts_of
from belljar.elf import ElfError, read
from belljar.report.audit_text import render

POLICY = Policy.of(glibc="2.17", isa="x86-64", build_paths=("/u", "/r"))


@settings(max_examples=400, deadline=None)
@given(
    number=st.integers(0, len(SAMPLES) - 1),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
)
def test_a_file_that_can_be_read_can_be_audited(number, edits):
    data = bytearray(SAMPLES[number])
    for offset, value in edits:
        data[offset % len(data)] = value
    try:
        elf = read(bytes(data))
    except ElfError:
        return
    facts = facts_of("x", bytes(data), elf, build_paths=POLICY.build_paths)
    report = Report(paths=("x",), policy=POLICY, files=(facts,), findings=check(facts, POLICY))
    json.dumps(report.to_json())
    assert all(line.isprintable() for line in render(report))
