"""This machine's own files: the closure is what the machine's own loader lists."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from loader_oracle import listed, own_loader

from belljar.elf import read
from belljar.elf.const import MAGIC
from belljar.errors import BelljarError
from belljar.ldso import Cache, resolve
from belljar.ldso.cpu import host_cpu

PROGRAMS, LIBRARIES = 150, 60
LARGEST = 16_000_000
"""Bytes; what is larger is left out here, to be done in time."""


def elf_files(*tops, name=""):
    for top in tops:
        for directory, below, names in os.walk(top):
            below.sort()
            for item in sorted(names):
                path = Path(directory, item)
                if (
                    name not in item
                    or path.is_symlink()
                    or not path.is_file()
                    or not os.access(path, os.R_OK)
                ):
                    continue
                if path.stat().st_size > LARGEST:
                    continue
                with path.open("rb") as file:
                    if file.read(4) == MAGIC:
                        yield path


def sample(paths, count):
    """Return about `count` of them, evenly spread, always the same."""
    found = list(paths)
    return found[:: max(1, len(found) // count)]


@pytest.fixture(scope="module")
def cache():
    return Cache()


def test_a_programs_closure_is_what_its_loader_lists_path_by_path_in_its_order(cache):
    loader, wrong = own_loader(), {}
    programs = sample(elf_files("/usr/bin"), PROGRAMS)
    assert len(programs) > 20
    for path in programs:
        closure = resolve(path, cache=cache)
        judge = listed(loader, path)
        if judge.status != 0:
            # Static, or for another loader of this machine.
            assert closure.loader != loader, f"{path}: {judge.stderr}"
            continue
        ours = [item.path for item in closure.objects[1:]]
        if (ours, {edge.name for edge in closure.missing}) != (judge.paths, judge.missing):
            wrong[str(path)] = (ours, judge)
    assert wrong == {}


def test_a_librarys_closure_and_its_open_symbols_are_what_the_loader_lists(cache):
    loader, wrong, compared, opened = own_loader(), {}, 0, 0
    tops = {Path(top).resolve() for top in ("/usr/lib", "/usr/lib64")}
    for path in sample(elf_files(*sorted(tops), name=".so"), LIBRARIES):
        judge = listed(loader, path, symbols=True)
        if judge.paths == []:
            continue
        try:
            closure = resolve(path, cache=cache)
        except BelljarError as error:
            wrong[str(path)] = error
            continue
        compared, opened = compared + 1, opened + len(judge.undefined)
        ours = [item.path for item in closure.objects[1:]]
        symbols = {(item.path, item.symbol) for item in closure.unresolved if item.symbol}
        missing = {edge.name for edge in closure.missing}
        if (ours, missing, symbols) != (judge.paths, judge.missing, judge.undefined):
            wrong[str(path)] = (ours, judge)
    assert wrong == {}
    assert compared > 10


def test_the_constants_that_are_read_from_a_loader_are_those_it_tells():
    name = own_loader()
    done = subprocess.run([name, "--list-diagnostics"], capture_output=True, text=True, check=False)
    told = dict(re.findall(r'^(\S+?)="(.*)"$', done.stdout, re.MULTILINE))
    header = read(Path("/bin/sh").read_bytes()).header
    loader = Cache().loader(name, header)
    assert loader.found
    assert loader.directories
    if done.returncode != 0:
        assert loader.release is None or loader.release < (2, 33), "only older loaders and musl's keep silent"
        return
    directories = [told[key].rstrip("/") for key in sorted(told) if key.startswith("path.system_dirs")]
    cpu = host_cpu(header.machine)
    assert list(loader.directories) == directories
    assert loader.lib == told["dl_dst_lib"]
    assert ".".join(map(str, loader.release)) == told["version.version"]
    assert loader.platform(cpu) == told["dl_platform"]
    active = int(re.search(r"^dl_hwcaps_subdirs_active=(\S+)", done.stdout, re.MULTILINE)[1], 16)
    names = told["dl_hwcaps_subdirs"].split(":")
    assert list(cpu.levels) == [item for at, item in enumerate(reversed(names)) if active >> at & 1][::-1]


def test_the_reason_why_a_file_was_found_names_a_place_where_it_is(cache):
    for path in sample(elf_files("/usr/bin"), 20):
        for edge in resolve(path, cache=cache).edges:
            assert edge.path is None or Path(edge.path).exists()
            assert edge.describe()
