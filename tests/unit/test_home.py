"""Where state is kept, as the environment says."""

from pathlib import Path

import pytest

from belljar.errors import UsageError
from belljar.home import Home


@pytest.mark.parametrize(
    ("env", "data", "cache"),
    [
        ({"BELLJAR_HOME": "/b", "XDG_DATA_HOME": "/d", "HOME": "/h"}, "/b", "/b/cache"),
        ({"BELLJAR_HOME": "/b/../c/"}, "/c", "/c/cache"),
        ({"XDG_DATA_HOME": "/d", "XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/d/belljar", "/c/belljar"),
        ({"HOME": "/h"}, "/h/.local/share/belljar", "/h/.cache/belljar"),
        (
            {"HOME": "/h", "XDG_DATA_HOME": "", "BELLJAR_HOME": ""},
            "/h/.local/share/belljar",
            "/h/.cache/belljar",
        ),
        ({"XDG_DATA_HOME": "/d", "XDG_CACHE_HOME": "/c"}, "/d/belljar", "/c/belljar"),
    ],
)
def test_the_first_variable_that_is_set_decides(env, data, cache):
    home = Home.from_environment(env)
    assert (str(home.data), str(home.cache)) == (data, cache)


def test_a_relative_home_counts_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Home.from_environment({"BELLJAR_HOME": "x"}).store == tmp_path / "x/store"


@pytest.mark.parametrize("env", [{}, {"HOME": ""}, {"HOME": "relative"}, {"XDG_DATA_HOME": "/d"}])
def test_without_an_absolute_directory_there_is_no_home(env):
    with pytest.raises(UsageError, match="no directory for belljar's state") as caught:
        Home.from_environment(env)
    assert "BELLJAR_HOME" in (caught.value.hint or "")


def test_work_in_progress_lies_beside_what_it_becomes():
    home = Home.from_environment({"BELLJAR_HOME": "/b"})
    assert home.staging.parent == home.store.parent == Path("/b")
    assert {home.downloads.parent, home.environments.parent, home.apt.parent} == {Path("/b/cache")}
