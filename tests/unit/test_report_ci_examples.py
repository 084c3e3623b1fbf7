"""The workflow examples in docs/ci keep to the program as it is."""

import itertools
import re
from pathlib import Path

import pytest

from belljar.audit import policies
from belljar.cli.audit import command

DOCS = Path(__file__).parent.parent.parent / "docs" / "ci"


def calls(text):
    """Return the words of each call of the audit, whatever lines it is folded over."""
    flat = re.sub(r"\s+", " ", text.replace("`", " ` "))
    return [found.split() for found in re.findall(r"belljar audit ((?:(?! - | belljar |[`>#]).)*)", flat)]


@pytest.mark.parametrize("name", ["audit.yml", "gitlab-ci.yml", "README.md"])
def test_the_examples_use_options_and_policies_that_exist(name):
    known = {option for parameter in command.params for option in parameter.opts}
    found = calls((DOCS / name).read_text())
    assert found
    for words in found:
        assert {word for word in words if word.startswith("--")} <= known
        for option, value in itertools.pairwise(words):
            if option == "--policy" and not value.startswith("./"):
                assert policies.find(value).name == value
            if option == "--format":
                choice = next(p.type for p in command.params if "--format" in p.opts)
                assert value in choice.choices


def test_the_example_policy_is_one():
    policy = policies.find(str(DOCS / "belljar-policy.toml"))
    assert policy.glibc is not None
    assert [item.rule for item in policy.waivers] == ["tie"]


def test_both_audits_are_there_of_the_change_and_of_the_released_bytes():
    text = (DOCS / "audit.yml").read_text()
    change, release = text.split("\n  release:\n    if:")
    assert "--baseline" in change and "upload-sarif" in change
    assert "gh release download" in release and "--baseline" not in release
