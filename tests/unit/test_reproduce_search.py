"""The search for causes, on builds whose causes are known: sets of influences that make a difference."""

import itertools
import random

import pytest

from belljar.reproduce.difference import Difference
from belljar.reproduce.result import causes_of
from belljar.reproduce.search import FAILURE, How, search
from belljar.reproduce.variation import ALL, CARRIED, NOBODYS

NAMES = [item.name for item in ALL]


class Builds:
    """Builds that differ at a path when all influences of its rule are varied; some differ always."""

    def __init__(self, rules, *, unstable=(), limit=100, texts=None):
        self.rules, self.always, self.limit = rules, unstable, limit
        self.texts = texts or {}
        self.count, self.known, self.hidden = 1, {}, set()

    def differences(self, names, *, again=False):
        if again or names not in self.known:
            self.count += 1
            found = [path for path, needed in self.rules.items() if needed <= names]
            self.known[names] = tuple(self._difference(path) for path in (*found, *self.always))
        return tuple(item for item in self.known[names] if item.spot not in self.hidden)

    def _difference(self, path):
        if path == "fails":
            return Difference(path="", part=FAILURE[1], before="0", after="1")
        before, after = self.texts.get(path, ("something", "or other"))
        return Difference(path=path, part="p", before=before, after=after)

    def repeat(self):
        self.count += 1
        found = tuple(self._difference(path) for path in self.always)
        self.hidden |= {item.spot for item in found}
        return found

    @property
    def is_spent(self):
        return self.count >= self.limit


def found_by(builds):
    return {item.names: {path for path, _ in item.spots} for item in search(builds, ALL)}


def test_builds_that_do_not_differ_need_one_build_beside_the_usual_one():
    builds = Builds({})
    assert search(builds, ALL) == ()
    assert builds.count == 2


@pytest.mark.parametrize("name", NAMES)
def test_any_one_influence_is_found_in_few_builds(name):
    builds = Builds({"a": {name}})
    assert found_by(builds) == {(name,): {"a"}}
    assert builds.count <= 16


@pytest.mark.parametrize("seed", range(60))
def test_any_influences_are_found_all_and_no_other(seed):
    guilty = random.Random(seed).sample(NAMES, 1 + seed % 6)
    rules = {f"file{number}": {name} for number, name in enumerate(guilty)}
    assert found_by(Builds(rules)) == {(name,): {path} for path, (name,) in rules.items()}


@pytest.mark.parametrize("seed", range(40))
def test_influences_that_meet_in_one_place_are_all_found(seed):
    class OnePlace(Builds):
        def differences(self, names, *, again=False):
            found = super().differences(names, again=again)
            return (Difference(path="a", before="some", after="other"),) if found else ()

    guilty = random.Random(seed).sample([name for name in NAMES if name != NOBODYS], 2 + seed % 3)
    builds = OnePlace({name: {name} for name in guilty})
    assert {item.names for item in search(builds, ALL)} == {(name,) for name in guilty}


@pytest.mark.parametrize("seed", range(40))
def test_influences_that_need_each_other_are_one_cause(seed):
    pair = random.Random(seed).sample(NAMES, 2)
    (found,) = search(Builds({"a": set(pair)}), ALL)
    assert (set(found.names), found.how) == (set(pair), How.TOGETHER)


def test_a_text_that_only_one_influence_can_have_written_saves_the_search():
    builds = Builds({"a": {"host"}}, texts={"a": ("localhost", "varied-host")})
    (found,) = search(builds, ALL)
    assert (found.names, found.how, builds.count) == (("host",), How.PROVED, 3)


def test_such_a_text_hides_no_other_cause_in_the_same_place():
    texts = {"a": ("localhost", "varied-host")}
    for name in NAMES:
        if name != "host":
            builds = Builds({"a": {"host"}, "b": {name}}, texts=texts)
            assert set(found_by(builds)) == {("host",), (name,)}


def test_what_differs_at_every_build_is_told_apart():
    builds = Builds({"a": {"umask"}}, unstable=("noise",))
    assert found_by(builds) == {("chance",): {"noise"}, ("umask",): {"a"}}


@pytest.mark.parametrize("seed", range(30))
def test_a_race_that_mostly_shows_is_not_blamed_on_influences(seed):
    rolled = random.Random(seed)

    class Racing(Builds):
        def differences(self, names, *, again=False):
            if again or names not in self.known:
                self.always = ("race",) if rolled.random() < 0.8 else ()
            return super().differences(names, again=again)

        def repeat(self):
            self.always = ("race",) if rolled.random() < 0.8 else ()
            return super().repeat()

    builds = Racing({"a": {"cpus"}, "b": {"umask"}})
    named = found_by(builds)
    assert (named[("cpus",)] - {"race"}, named[("umask",)] - {"race"}) == ({"a"}, {"b"})
    assert sum("race" in spots for spots in named.values()) <= 2
    assert builds.count <= 40


def test_an_influence_that_makes_the_build_fail_does_not_hide_the_others():
    class Failing(Builds):
        def differences(self, names, *, again=False):
            found = super().differences(names, again=again)
            failed = tuple(item for item in found if item.spot == FAILURE)
            return failed or found

    builds = Failing({"fails": {"umask"}, "a": {"kernel"}, "b": {"host"}})
    assert set(found_by(builds)) == {("umask",), ("kernel",), ("host",)}


def test_the_environment_as_a_whole_is_one_cause_found_in_few_builds():
    class Stack(Builds):
        def differences(self, names, *, again=False):
            """Any variable moves the stack, and one file has something else, too."""
            found = super().differences(names, again=again)
            moves = any(name.startswith("environment:") or name in CARRIED for name in names)
            return (*found, self._difference("stack")) if moves else found

    builds = Stack({"other": {"cpus"}})
    found = search(builds, ALL)
    (other, cause) = causes_of(found, ALL, builds.differences(frozenset(NAMES)))
    assert (cause.names, cause.spots) == (("environment",), (("stack", "p"),))
    assert (other.names, other.spots) == (("cpus",), (("other", "p"),))
    assert builds.count <= 16


def test_one_variable_is_found_beside_the_environment_as_a_whole():
    builds = Builds({"list": {NOBODYS}, "ci": {"environment:CI"}, "home": {"home"}})
    assert found_by(builds) == {(NOBODYS,): {"list"}, ("environment:CI",): {"ci"}, ("home",): {"home"}}


def test_what_differs_once_and_never_again_is_said_so():
    class Once(Builds):
        def differences(self, names, *, again=False):
            found = super().differences(names, again=again)
            self.rules = {}
            return found

    (found,) = search(Once({"a": set()}), ALL)
    assert (found.names, found.how) == (("chance",), How.ONCE)


def test_the_search_ends_at_its_limit_with_the_groups_that_are_left():
    builds = Builds({f"f{n}": {name} for n, name in enumerate(NAMES)}, limit=8)
    found = search(builds, ALL)
    assert builds.count <= 8 + 2
    named = set(itertools.chain.from_iterable(item.names for item in found))
    assert named == set(NAMES)
    assert any(item.how is How.OPEN for item in found)


def test_influences_that_cancel_each_other_are_found_by_more_rounds():
    class Parity(Builds):
        def differences(self, names, *, again=False):
            """An even number of them leaves no trace."""
            found = super().differences(names, again=again)
            return found if len(found) % 2 else ()

    for one, two in itertools.combinations(NAMES, 2):
        rules = {"a": {one}, "b": {two}}
        assert search(Parity(rules), ALL) == ()
        named = {name for item in search(Parity(rules), ALL, rounds=11) for name in item.names}
        # Addresses vary in every round: what cancels with them is never seen without.
        assert named == ({"aslr"} if "aslr" in {one, two} else {one, two})


def test_what_shows_now_and_then_is_found_by_more_rounds_and_may_hide_from_one():
    class Seldom(Builds):
        def differences(self, names, *, again=False):
            found = super().differences(names, again=again)
            return found if self.count >= 3 else ()

    assert search(Seldom({"a": {"aslr"}}), ALL) == ()
    (found,) = search(Seldom({"a": {"aslr"}}), ALL, rounds=3)
    assert found.names == ("aslr",)
