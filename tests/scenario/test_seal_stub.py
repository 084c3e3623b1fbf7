"""The stubs, launchers and libraries that are shipped are what their source gives."""

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tool():
    spec = importlib.util.spec_from_file_location("stub_tool", ROOT / "tools/stub.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("source", ["stub", "launcher", "first", "show"])
def test_building_it_again_gives_every_byte(source, machine, tmp_path):
    made = tool()
    said = subprocess.run(
        [sys.executable, "-m", "ziglang", "version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == made.VERSION  # its package may have been packed again: 0.17.0.post0
    shipped = (ROOT / "src/belljar/seal/stub" / f"{source}.{machine}.bin").read_bytes()
    assert made.build(machine, tmp_path, source) == shipped


def test_it_holds_no_relocations_and_no_writable_data(tmp_path):
    from elftools.elf.elffile import ELFFile

    made = tool()
    for machine, source in itertools.product(made.MACHINES, made.SOURCES):
        made.build(machine, tmp_path, source)
        with (tmp_path / f"{source}.{machine}.elf").open("rb") as file:
            elf = ELFFile(file)
            names = {section.name for section in elf.iter_sections() if section["sh_flags"] & 2}
            loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        assert names == {".text"}
        assert [segment["p_flags"] for segment in loads] == [5]
