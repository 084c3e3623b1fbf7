"""Real projects come out of `belljar run` the same, whoever runs it, where, when and on how many CPUs."""

import os
import shutil
import time

import projects
import pytest
from test_run_support import NOBODY, ROOT, Place, belljar, plain, scratch, system

SMALL = ("lua", "cjson")
REST = tuple(name for name in projects.PROJECTS if name not in SMALL)
YEAR = 365 * 86400


def here(name: str, directory: str, user: int | None, mtime: int) -> Place:
    """Stage a project in a place of its own."""
    place = Place(top=scratch(None), name=directory, tools=projects.PROJECTS[name].tools)
    place.project.mkdir(parents=True)
    place.home.mkdir()
    projects.stage(projects.PROJECTS[name], place.project, mtime=mtime)
    if projects.PROJECTS[name].fetch:
        place.env |= projects.settings(place.home)
    if user is not None:
        for path in (place.top, *place.top.rglob("*")):
            os.chown(path, user, user, follow_symlinks=False)
    return place


def built(name: str, place: Place, *, user: int | None, cpus: int, umask: int) -> dict[str, bytes]:
    project = projects.PROJECTS[name]
    words = ["run", "--system", str(system(project.tools)), "--profile", project.profile, *project.options]
    fetch = ["--fetch"] if project.fetch else []
    config = {"XDG_CONFIG_HOME": str(place.home / ".config"), "LANG": "x", "PATH": os.environ["PATH"]}
    done = belljar(
        *(*words, *fetch, "--", "bash", "-euc", project.script),
        cwd=place.project,
        env=place.environment() | config,
        user=user,
        cpus=cpus,
        umask=umask,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return projects.made_by(project, place.project)


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def compared(name: str) -> list[str]:
    """Build as the caller and again as another user, in another place, on one CPU; return what differs."""
    first = here(name, "project", None, projects.OLD)
    second = here(name, "quite/another-directory", NOBODY if ROOT else None, int(time.time()) - YEAR)
    second.home.rename(second.top / "elsewhere")
    second.env["HOME"] = str(second.top / "elsewhere")
    try:
        one = built(name, first, user=None, cpus=2, umask=0o022)
        other = built(name, second, user=NOBODY if ROOT else None, cpus=1, umask=0o077)
    finally:
        shutil.rmtree(first.top)
        shutil.rmtree(second.top)
    assert one, "the build makes something"
    return differing(one, other)


@pytest.mark.parametrize("name", SMALL)
def test_a_real_project_comes_out_the_same(name):
    assert compared(name) == []


@pytest.mark.extended
@pytest.mark.parametrize("name", REST)
def test_each_real_project_comes_out_the_same(name):
    assert compared(name) == []


def test_a_plain_build_of_the_same_project_differs():
    """The negative control: without belljar the directory is in the output."""
    made = []
    for directory in ("project", "elsewhere"):
        place = here("cjson", directory, None, projects.OLD)
        assert plain(place, projects.PROJECTS["cjson"].script) == 0
        made.append(projects.made_by(projects.PROJECTS["cjson"], place.project))
        shutil.rmtree(place.top)
    assert differing(*made) != []
