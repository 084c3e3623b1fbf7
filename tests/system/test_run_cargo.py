"""What Cargo's users asked of a hermetic mode, by real builds: linkers, compilers, the lock file.

What leaks into plain Cargo and not into `belljar run` is in test_run_leaks.py.
"""

import json
import shutil
import subprocess

import pytest
from test_run_support import Place, hermetic

pytestmark = pytest.mark.extended  # rustc and cargo with all that they need

FILES = {
    "Cargo.toml": '[package]\nname = "a"\nversion = "0.1.0"\nedition = "2021"\nbuild = "build.rs"\n'
    '[dependencies]\nm = { path = "m" }\n',
    "Cargo.lock": '# @generated\nversion = 3\n\n[[package]]\nname = "a"\nversion = "0.1.0"\n'
    'dependencies = [\n "m",\n]\n\n[[package]]\nname = "m"\nversion = "0.1.0"\n',
    "src/main.rs": 'fn main() { println!("{}{}", m::seven!(), option_env!("PLANTED").unwrap_or("")); }\n',
    "build.rs": 'fn main() { println!("cargo:rerun-if-changed=build.rs"); }\n',
    "m/Cargo.toml": '[package]\nname = "m"\nversion = "0.1.0"\nedition = "2021"\n[lib]\nproc-macro = true\n',
    "m/src/lib.rs": "#[proc_macro] pub fn seven(_: proc_macro::TokenStream) -> proc_macro::TokenStream"
    ' { "7".parse().unwrap() }\n',
}
BUILD = ("--", "cargo", "build", "--release")


@pytest.fixture
def place(tmp_path):
    made = Place(top=tmp_path / "top", tools="run-rust")
    made.home.mkdir(parents=True)
    for name, text in FILES.items():
        made.write(name, text)
    return made


def program(place):
    return (place.project / "target/release/a").read_bytes()


def test_a_c_compiler_can_be_forbidden_and_is_needed_to_link_by_default(place):
    assert hermetic(place, *BUILD, profile="cargo").returncode == 0
    shutil.rmtree(place.project / "target")
    assert hermetic(place, "--no-cc", *BUILD, profile="cargo").returncode != 0
    assert not (place.project / "target/release/a").exists()


@pytest.mark.parametrize("linker", ["ld.lld", "ld.bfd"])
def test_a_linker_without_a_c_compiler_makes_programs_and_macros_that_run(place, linker):
    done = hermetic(place, "--no-cc", "--linker", linker, *BUILD, profile="cargo")
    assert done.returncode == 0, done.stderr
    said = subprocess.run([place.project / "target/release/a"], capture_output=True, text=True, check=True)
    assert said.stdout == "7\n"
    assert (b"LLD" in program(place)) == (linker == "ld.lld")


def test_a_linker_that_is_not_there_is_refused_before_anything_runs(place):
    done = hermetic(place, "--linker", "ld.nothing", *BUILD, profile="cargo")
    assert (done.returncode, "ld.nothing: not found" in done.stderr) == (3, True)


def test_the_report_identifies_compiler_linker_and_loader(place):
    report = place.top / "report.json"
    done = hermetic(place, "--report", str(report), *BUILD, profile="cargo")
    assert done.returncode == 0, done.stderr
    tools = {tool["path"].rsplit("/", 1)[-1]: tool for tool in json.loads(report.read_text())["tools"]}
    assert "host: " in tools["rustc"]["version"], "all lines of rustc -vV"
    for name in ("cargo", "x86_64-linux-gnu-gcc-12", "x86_64-linux-gnu-ld.bfd", "collect2"):
        assert tools[name]["version"], name
        assert len(tools[name]["sha256"]) == 64
    assert tools["ld-linux-x86-64.so.2"]["role"] == "interpreter"


def test_a_lock_file_that_would_have_to_change_is_refused_by_cargo(place):
    place.write("Cargo.lock", "version = 3\n")
    done = hermetic(place, *BUILD, profile="cargo")
    assert done.returncode == 101
    assert "--locked" in done.stderr
    assert (place.project / "Cargo.lock").read_text() == "version = 3\n"


def test_the_cache_is_read_and_its_configuration_is_not(place):
    """Of CARGO_HOME downloads are shown: no configuration, no credentials, no installed programs."""
    for name in ("config.toml", "credentials.toml", "bin/rustc", "registry/cache/x/kept.crate"):
        place.write(f"~/cargo/{name}", "[build]\nrustc = '/nonexistent'\n")
    place.env["CARGO_HOME"] = str(place.home / "cargo")
    words = [
        "sh",
        "-c",
        "cd $CARGO_HOME; ls; ls registry/cache/x; touch registry/cache/x/y || echo read-only",
    ]
    done = hermetic(place, "-q", "--", *words, profile="cargo")
    assert done.stdout.split() == ["registry", "kept.crate", "read-only"]
    assert hermetic(place, *BUILD, profile="cargo").returncode == 0
