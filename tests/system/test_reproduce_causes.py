"""Known causes, planted in projects of C and shell: each must be named, and nothing else."""

import json
from pathlib import Path

import pytest
from test_run_support import Place, belljar, system

WHEN = 'char const when[] = __DATE__ " " __TIME__;\nint main(void) { return when[0]; }\n'
CHECK = "#include <assert.h>\nint main(int count, char **w) { (void)w; assert(count < 5); return 0; }\n"
BY_POINTER = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static uint64_t mixed(void const *item) {
    uint64_t value = (uint64_t)*(void *const *)item;
    value = (value ^ value >> 17) * 0x9E3779B97F4A7C15u;
    return (value ^ value >> 31) * 0xBF58476D1CE4E5B9u;
}
static int compare(void const *one, void const *two) { return mixed(one) < mixed(two) ? -1 : 1; }
int main(void) {
    char const *words[] = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"};
    char const **items[8];
    for (int n = 0; n < 8; n++) *(items[n] = malloc(1000)) = words[n];
    qsort(items, 8, sizeof *items, compare);
    for (int n = 0; n < 8; n++) puts(*items[n]);
}
"""
FILES = {
    "when.c": WHEN,
    "check.c": CHECK,
    "order.c": BY_POINTER,
    "plain.c": "int plain(void) { return 1; }\n",
    "words": "a\nB\nc\nD\n",
    **{f"parts/{name}": f"{name}\n" for name in ("one", "two", "three", "four", "five", "six")},
}
# What it writes, the script that does, and the influence that is to be named for it.
PLANTED = {
    "when": ("gcc -o when when.c", "source-date"),
    "check": ('gcc -g -o check "$PWD/check.c"', "path"),
    "order": ("gcc -o order.tool order.c; ./order.tool > order; rm order.tool", "aslr"),
    "random": ('echo "built $RANDOM" > random', "random"),
    "programs": ("echo $PATH > programs", "exec-path"),
    "model": ("grep -m1 -i '^model name' /proc/cpuinfo > model", "cpu-model"),
    "uptime": ("cat /proc/uptime > uptime", "uptime"),
    "dump": ("env -u A | sort | cksum > dump", "environment"),
    "listing": ('for name in $(ls -U parts); do cat "parts/$name"; done > listing', "directory-order"),
    "count": ('echo "threads=$(nproc)" > count', "cpus"),
    "host": ('echo "on $(uname -n)" > host', "host"),
    "user": ("id -un > user", "user"),
    "sorted": ("sort words > sorted", "locale"),
    "zone": ("date -d @0 +%H:%M > zone", "timezone"),
    "mask": ("umask > mask", "umask"),
    "variable": ('echo "build ${BUILD_NUMBER:-none}" > variable', "environment:BUILD_NUMBER"),
    "kernel": ("uname -r > kernel", "kernel"),
    "date": ("date -u +%F > date", "clock"),
    "home": ("echo $HOME > home", "home"),
    "scratch": ("echo $TMPDIR > scratch", "tmpdir"),
    "stamp": ("stat -c %Y words > stamp", "timestamps"),
    "set": ("""python3 -c 'print(list({"a", "bb", "ccc", "dddd", "eeeee", "f"}))' > set""", "hash-seed"),
    "process": ('echo "$$" > process', "pids"),
    "jobs": ('echo "${MAKEFLAGS-none}" > jobs', "jobs"),
    "memory": ("grep MemTotal /proc/meminfo > memory", "memory"),
    "bytes": ("head -c 9 /dev/urandom | od -An -tx1 > bytes", "random"),
    "made": ("touch new; stat -c %Y new > made; rm new", "file-times"),
}


def place_with(top: Path, script: str, files: dict[str, str] = FILES) -> Place:
    place = Place(top=top)
    place.home.mkdir(parents=True)
    for name, text in files.items():
        place.write(name, text)
    place.write("build.sh", script + "\n")
    return place


def reproduced(place: Place, *options: str, command: tuple[str, ...] = ("bash", "-eu", "build.sh")):
    """Return the exit status and the report."""
    done = belljar(
        *("reproduce", "--json", "--profile", "none", "--system", str(system()), *options, "--", *command),
        cwd=place.project,
        env=place.environment(),
    )
    if done.returncode not in {0, 1}:
        return done.returncode, done.stderr
    return done.returncode, json.loads(done.stdout)


def causes(report) -> set[str]:
    return {" + ".join(cause["influences"]) for cause in report["causes"]}


def by_file(report) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in report["differences"]:
        found.setdefault(item["path"], set()).update(item["causes"])
    return found


def test_a_build_that_depends_on_nothing_is_reproducible_after_two_builds(tmp_path):
    script = "gcc -g -ffile-prefix-map=$PWD=. -c when.c -D__DATE__= -D__TIME__= -Wno-builtin-macro-redefined"
    script += "\nar rcs libwhen.a when.o\nLC_ALL=C sort words > sorted"
    status, report = reproduced(place_with(tmp_path, script))
    assert (status, report["reproducible"], report["causes"]) == (0, True, [])
    assert report["builds"] == 2


def test_every_planted_cause_is_named_for_its_file_and_no_other(tmp_path):
    script = "\n".join(line for line, _ in PLANTED.values()) + "\necho always the same > same"
    status, report = reproduced(place_with(tmp_path, script))
    assert status == 1
    assert by_file(report) == {name: {cause} for name, (_, cause) in PLANTED.items()}
    assert report["builds"] <= 40


def test_two_causes_in_one_line_are_both_named(tmp_path):
    place = place_with(tmp_path, 'echo "on $(uname -n) with $(nproc) threads" > out')
    status, report = reproduced(place)
    assert (status, causes(report)) == (1, {"host", "cpus"})
    assert by_file(report) == {"out": {"host", "cpus"}}


@pytest.mark.extended  # tests/unit/test_reproduce_search.py has the same without builds
def test_influences_that_make_a_difference_only_together_are_one_cause(tmp_path):
    script = 'if [ "${CI-}" ] && [ "$(nproc)" = 5 ]; then echo a; else echo b; fi > out'
    options = ("--vary", "environment:*", "--vary", "cpus", "--vary", "host", "--vary", "kernel")
    status, report = reproduced(place_with(tmp_path, script), *options)
    assert (status, causes(report)) == (1, {"environment:CI + cpus"})


@pytest.mark.extended
def test_a_build_that_fails_under_an_influence_says_which_and_the_others_are_still_found(tmp_path):
    place = place_with(tmp_path, '[ "$(umask)" = 0022 ]\nuname -r > kernel')
    status, report = reproduced(place, "--vary", "umask", "--vary", "kernel", "--vary", "host")
    assert (status, causes(report)) == (1, {"umask", "kernel"})
    failing = next(cause for cause in report["causes"] if cause["influences"] == ["umask"])
    assert failing["kind"] == "failure"


def test_what_differs_at_every_build_is_chance(tmp_path):
    clock = "python3 -c 'import time; print(time.monotonic_ns())' > out"
    place = place_with(tmp_path, f"{clock}\nuname -n > host")
    status, report = reproduced(place, "--vary", "host", "--vary", "kernel")
    assert status == 1
    assert by_file(report) == {"out": {"chance"}, "host": {"host"}}


def test_an_input_by_convention_is_named_and_makes_no_build_unreproducible_unless_asked(tmp_path):
    place = place_with(tmp_path, "gcc -o when when.c")
    options = ("--vary", "source-date", "--vary", "host")
    status, report = reproduced(place, *options)
    assert (status, causes(report), report["reproducible"]) == (0, {"source-date"}, True)
    status, report = reproduced(place, *options, "--strict")
    assert (status, causes(report)) == (1, {"source-date"})


def test_a_variable_of_ones_own_is_varied_on_demand(tmp_path):
    place = place_with(tmp_path, 'echo "${FLAVOUR-plain}" > out')
    status, report = reproduced(place, "--vary", "environment", "--env", "FLAVOUR=sweet")
    assert (status, causes(report)) == (1, {"environment:FLAVOUR"})


@pytest.mark.extended  # one after the other, 3 seconds each
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_cause_is_named_when_it_is_the_only_one(name, tmp_path):
    line, cause = PLANTED[name]
    _, report = reproduced(place_with(tmp_path, line))
    assert causes(report) == {cause}


def test_what_a_compiler_draws_does_not_follow_from_the_names_of_its_temporary_files(tmp_path):
    place = place_with(tmp_path, "gcc -flto -c when.c -D__DATE__= -D__TIME__= -Wno-builtin-macro-redefined")
    status, report = reproduced(place, "--vary", "host")
    assert (status, report["differences"]) == (0, [])


def test_a_path_in_compressed_debug_information_is_shown_and_no_further_build_is_needed(tmp_path):
    place = place_with(tmp_path, 'gcc -g -gz -c -o out.o "$PWD/plain.c"')
    status, report = reproduced(place, "--vary", "path", "--vary", "host")
    assert (status, causes(report), report["builds"]) == (1, {"path"}, 3)
    told = [item for item in report["differences"] if "/varied/place" in item["after"]]
    assert all(item["part"].startswith(".debug_") for item in told)
    assert told
