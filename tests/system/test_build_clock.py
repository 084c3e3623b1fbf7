"""What a build finds past its inputs is the same each time: the clock, random numbers, the machine."""

import time
from pathlib import Path

from test_build_support import TINY, home, home_of, recipe

from belljar.build import Options, build
from belljar.sandbox import machine

LOOK = """
mkdir -p $PREFIX/many
date +%s > $PREFIX/time
head -c 16 /dev/urandom > $PREFIX/chance
{ uname -rv; nproc; mktemp -u; } > $PREFIX/machine
cd /proc; cat cpuinfo meminfo stat version cmdline loadavg uptime >> $PREFIX/machine
for name in c a d b; do : > $PREFIX/many/$name; done
ls -U $PREFIX/many > $PREFIX/order
"""
WAIT = "end=$(($(date +%s) + 2)); while [ $(date +%s) -lt $end ]; do sleep 0.2; done; mkdir -p $PREFIX/done"
SKEW = "printf 'b: a\\n\\tcp a b\\n' > Makefile; echo > a; make 2>&1; make 2>&1; mkdir -p $PREFIX/done"
DENIED = "chroot / true || mkdir -p $PREFIX/done"


def kitchen(directory: Path):
    return home_of(home(directory))


def read(artifact, name: str) -> str:
    return (artifact.path / name).read_text()


def log_of(place, artifact) -> str:
    return (place.logs / f"{artifact.name}.log").read_text()


def test_two_builds_learn_the_same_of_time_chance_and_machine(tmp_path):
    directory = recipe(tmp_path / "recipe", LOOK)
    first = build(directory, home=kitchen(tmp_path / "one"), options=Options(jobs=1))
    time.sleep(1.1)
    second = build(directory, home=kitchen(tmp_path / "two"), options=Options(jobs=3))
    assert not second.cached
    assert (second.name, second.record.content) == (first.name, first.record.content)
    assert int(read(first, "time")) == machine.CLOCK
    assert read(first, "order").split() == ["a", "b", "c", "d"]
    assert Path("/proc/version").read_text() not in read(first, "machine")


def test_by_the_real_clock_it_is_another_artifact(tmp_path):
    directory, place = recipe(tmp_path / "recipe", LOOK), kitchen(tmp_path / "home")
    usual = build(directory, home=place)
    real = build(directory, home=place, options=Options(real_clock=True))
    assert abs(int(read(real, "time")) - time.time()) < 600
    assert real.name != usual.name
    assert (real.record.inputs["clock"], "clock" in usual.record.inputs) == ("real", False)
    assert build(directory, home=place, options=Options(real_clock=True)).cached


def test_who_waits_for_a_time_to_come_gets_there(tmp_path):
    artifact = build(recipe(tmp_path / "recipe", WAIT), home=kitchen(tmp_path / "home"))
    assert (artifact.path / "done").is_dir()


def test_no_file_is_from_the_future(tmp_path, monkeypatch):
    directory = recipe(tmp_path / "recipe", SKEW, packages=(*TINY, "deb:make"))
    place, other = kitchen(tmp_path / "home"), kitchen(tmp_path / "other")
    assert "skew" not in log_of(place, build(directory, home=place))
    monkeypatch.setattr(machine, "CLOCK", 315_619_200)
    assert "Clock skew detected" in log_of(other, build(directory, home=other))


def test_what_is_denied_stands_in_the_log(tmp_path):
    place = kitchen(tmp_path / "home")
    text = log_of(place, build(recipe(tmp_path / "recipe", DENIED), home=place))
    assert "belljar: denied once: chroot (what is mounted is the sandbox), to /usr/sbin/chroot" in text


def test_a_setuid_bit_is_left_out_and_the_log_says_so(tmp_path):
    place = kitchen(tmp_path / "home")
    script = 'echo x > tool; install -m 4755 tool "$PREFIX/tool"; stat -c "mode %a" "$PREFIX/tool"'
    artifact = build(recipe(tmp_path / "recipe", script), home=place)
    said = log_of(place, artifact).splitlines()
    assert said[0] == "mode 755"
    assert said[1].startswith("belljar: left out: the setuid bit of /")
    assert said[1].endswith("/tool, for /usr/bin/install")
    assert (artifact.path / "tool").stat().st_mode & 0o6000 == 0
