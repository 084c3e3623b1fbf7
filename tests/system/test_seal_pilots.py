"""Programs of Debian 12, sealed and moved, do on other systems what they do at home: the fast ones.

The others (compilers, a JDK, node, numpy, Rust, Go) are `make bench ARGS=pilots`.
"""

import os
import tempfile
from pathlib import Path

import pilots
import pytest
from pilot_scripts import FAST

from belljar.home import Home
from belljar.verify import verify


@pytest.fixture(scope="module")
def places():
    """The roots, kept for the next run."""
    kept = Path(tempfile.gettempdir()) / f"belljar-tests-roots-{os.getuid()}"
    return pilots.obtained(Home(data=kept, cache=kept / "cache"))


def test_unsealed_a_shell_starts_on_none_of_the_roots(places, tmp_path):
    pilots.fill(tmp_path / "bash", FAST["bash"])
    results = verify(tmp_path / "bash", ["bin/bash", "-c", "true"], places).results
    assert not any(result.passed for result in results)


@pytest.mark.parametrize(
    "name", [name if name == "bash" else pytest.param(name, marks=pytest.mark.extended) for name in FAST]
)
def test_sealed_and_moved_they_do_on_every_root_what_they_do_at_home(name, places, tmp_path):
    row = pilots.run(name, FAST[name], tmp_path, places)
    assert row.faults() == []
    assert [result.root.name for result in row.results] == list(pilots.ROOTS)
