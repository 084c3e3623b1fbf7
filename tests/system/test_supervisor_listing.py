"""The order in which a supervised program finds what a directory holds."""

import pytest
from test_run_support import system

from belljar.build.environment import Environment
from belljar.build.sandboxed import root_of
from belljar.sandbox import Bind, Devices, Policy, Proc, Sandbox, Tmpfs, Trace, run
from belljar.types import Digest

LIST = """
import os
names = os.listdir("/d")
print(len(names), *names[:50])
found = 0
with os.scandir("/d") as entries:  # removed while it is being read
    for entry in entries:
        assert entry.is_file(follow_symlinks=False)
        os.unlink(entry.path)
        found += 1
print(found, os.listdir("/d"))
os.makedirs("/d/a/b/c"); open("/d/a/b/c/x", "w").close()
print(os.popen("rm -r /d/a; ls /d | wc -l; ls -a / | head -2 | tr '\\\\n' ' '").read())
"""


def listed(tmp_path, name, order):
    directory = tmp_path / name
    directory.mkdir()
    for number in range(2000):
        (directory / f"f{number * 7919 % 2000:04}").touch()
    box = Sandbox(
        operations=(
            *root_of(Environment(path=system(), digest=Digest(""))),
            *(
                Proc(),
                Devices(),
                Tmpfs(target="/tmp"),
                Bind(source=str(directory), target="/d", writable=True),
            ),
        ),
        env={"PATH": "/usr/bin"},
    )
    policy = Policy(trace=Trace.NOTHING, listing=order)
    with (tmp_path / f"{name}.log").open("wb") as log:
        words = ["/usr/bin/python3", "-I", "-c", LIST]
        status = run(box, words, stdout=log.fileno(), stderr=log.fileno(), policy=policy, timeout=60).status
    text = (tmp_path / f"{name}.log").read_text()
    assert status == 0, text
    return text.splitlines()


@pytest.mark.parametrize("order", [None, "sorted", "one"])
def test_a_directory_lists_each_entry_once_also_while_it_is_emptied(order, tmp_path):
    first, second, *rest = listed(tmp_path, "d", order)
    assert first.split()[0] == "2000"
    assert second == "2000 []"
    assert [line.strip() for line in rest if line] == ["0", ". .."]


def test_listings_are_sorted_or_in_an_order_that_follows_from_a_word(tmp_path):
    in_order = [f"f{number:04}" for number in range(50)]
    orders = {
        name: listed(tmp_path, name, word)[0].split()[1:]
        for name, word in (("a", "sorted"), ("b", "one"), ("c", "one"), ("d", "two"))
    }
    assert orders["a"] == in_order
    assert orders["b"] == orders["c"] != orders["d"]
    assert in_order not in (orders["b"], orders["d"])
