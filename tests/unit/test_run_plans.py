"""What `belljar run` decides before anything is run: profile, lock, what is shown, what may be written."""

import os
import time
from pathlib import Path

import pytest

from belljar.errors import InputError, UsageError
from belljar.hermetic.plan import plan
from belljar.hermetic.profile import available, choose, locked_command
from belljar.hermetic.reached import Outside, shortened
from belljar.hermetic.request import PROJECT, Request
from belljar.sandbox import Bind, Tmpfs
from belljar.schema import SchemaError

NAMES = ["cargo", "cmake", "go", "make", "maven", "meson", "npm", "pip", "zig"]


@pytest.fixture
def machine(tmp_path):
    """A root with a few empty tools, so that no test depends on what this machine has."""
    top = tmp_path / "machine"
    for name in ("usr/bin/make", "usr/bin/gcc", "usr/bin/x86_64-linux-gnu-g++-12", "usr/bin/cat"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("")
    (top / "usr/bin/cc").symlink_to("gcc")
    (top / "usr/local/include").mkdir(parents=True)
    (top / "bin").symlink_to("usr/bin")
    return top


@pytest.fixture
def project(tmp_path):
    place = tmp_path / "home/user/project"
    place.mkdir(parents=True)
    return place


def asked(project, machine, *command, **more):
    env = more.pop("env", {}) | {"HOME": str(project.parent)}
    return Request(command=command or ("true",), project=project, system=machine, env=env, **more)


def binds(made):
    return {item.target: item for item in made.build.sandbox.operations if isinstance(item, Bind)}


def test_every_built_in_profile_can_be_read():
    assert list(available(None)) == NAMES


def test_a_profile_of_the_user_takes_the_place_of_a_built_in_one(tmp_path):
    (tmp_path / "make.toml").write_text('outputs = ["out"]\n')
    assert available(tmp_path)["make"].outputs == ("out",)


@pytest.mark.parametrize(
    "text",
    [
        'outputs = ["../x"]',
        'outputs = ["/x"]',
        'outputs = ["a/../../b"]',
        'markers = ["/etc/passwd"]',
        'host = ["etc"]',
        'nonsense = "x"',
        'hidden = ["x"]',
        "identity = [1]",
        'identity = "make"',
        '[fetch]\nsees = ["../x"]',
        '[fetch]\ncommand = "x y"',
        '[[caches]]\nhome = "x"',
        "outputs = 1",
        '[env]\n"A=B" = "x"',
        '[lock]\nwhen = "("',
        '[[caches]]\nhome = "../x"\ninside = "/y"',
        '[[caches]]\nhome = "x"\ninside = "y"',
        "[",
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(tmp_path, text):
    (tmp_path / "mine.toml").write_text(text + "\n")
    with pytest.raises(SchemaError):
        available(tmp_path)


def test_what_is_wrong_with_a_profile_is_said_at_once_with_file_line_and_key(tmp_path, project, machine):
    (tmp_path / "mine.toml").write_text('nonsense = 1\n\nmarkers = ["/x"]\n[env]\n"A=B" = "x"\n')
    with pytest.raises(SchemaError) as caught:
        plan(asked(project, machine, profiles=tmp_path))
    assert str(tmp_path / "mine.toml") in caught.value.message
    assert [issue.line for issue in caught.value.issues] == [1, 3, 5]
    assert {issue.key for issue in caught.value.issues} == {"nonsense", "markers", 'env."A=B"'}
    assert plan(asked(project, machine, profiles=tmp_path, profile="none")).profile.name == "none"


def test_a_profile_of_the_user_decides_like_a_built_in_one(tmp_path, project, machine):
    (tmp_path / "just.toml").write_text(
        'title = "just"\nmarkers = ["Justfile"]\nprograms = ["just"]\noutputs = ["out"]\n'
        'variables = ["JUST_*"]\nhidden = ["~/.justfile", "../Justfile"]\n[env]\nJUST_COLOR = "never"\n'
        '[lock]\nfiles = ["just.lock"]\noption = "--locked"\ncommands = ["go"]\n'
    )
    (project / "Justfile").touch()
    (project.parent / "Justfile").touch()
    (project.parent / ".justfile").touch()
    request = asked(project, machine, "just", "go", profiles=tmp_path, env={"JUST_A": "1", "OTHER": "1"})
    with pytest.raises(InputError, match=r"just\.lock"):
        plan(request)
    (project / "just.lock").touch()
    made = plan(request)
    assert (made.profile.name, made.build.command) == ("just", ("just", "go", "--locked"))
    assert (made.build.outputs, made.withheld) == (("out",), ("JUST_A",))
    assert made.build.sandbox.env["JUST_COLOR"] == "never"
    assert set(made.hidden) == {str(project.parent / ".justfile"), str(project.parent / "Justfile")}


def test_a_linker_that_is_no_c_compiler_is_called_by_a_script(project, machine):
    (project / "Cargo.toml").touch()
    (project / "Cargo.lock").touch()
    driver = plan(asked(project, machine, linker="gcc")).build.sandbox.env
    direct = plan(asked(project, machine, linker="rust-lld")).build.sandbox.env
    name = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER"
    assert (driver[name], "BELLJAR_LINKER" in driver) == ("gcc", False)
    assert (direct[name], direct["BELLJAR_LINKER"]) == ("/run/belljar/ld.lld", "rust-lld")
    shown = binds(plan(asked(project, machine, linker="rust-lld")))["/run/belljar/ld.lld"]
    assert os.access(shown.source, os.X_OK)


def test_sockets_and_pipes_of_a_project_are_covered(project, machine):
    (project / "a").mkdir()
    os.mkfifo(project / "a/pipe")
    (project / "a/file").touch()
    covered = {
        target for target, item in binds(plan(asked(project, machine))).items() if item.source == "/dev/null"
    }
    assert covered == {f"{PROJECT}/a/pipe"}
    for number in range(1000):
        os.mkfifo(project / f"a/{number}")
    with pytest.raises(InputError, match="more than 1000"):
        plan(asked(project, machine))


def test_the_marker_chooses_and_the_program_decides_between_two(project):
    profiles = available(None)
    assert choose(profiles, None, project, ["true"]).name == "none"
    (project / "Makefile").touch()
    assert choose(profiles, None, project, ["true"]).name == "make"
    (project / "Cargo.toml").touch()
    assert choose(profiles, None, project, ["/usr/bin/cargo"]).name == "cargo"
    with pytest.raises(UsageError, match="cargo, make"):
        choose(profiles, None, project, ["true"])
    with pytest.raises(UsageError, match="not known"):
        choose(profiles, "carg", project, ["true"])


@pytest.mark.parametrize(
    ("marker", "text", "lock"),
    [
        ("Cargo.toml", "", "Cargo.lock"),
        ("go.mod", "module x\nrequire y v1.0.0\n", "go.sum"),
        ("package.json", '{"dependencies": {"x": "1"}}', "package-lock.json"),
        ("pyproject.toml", '[project]\ndependencies = ["x"]\n', "requirements.txt"),
    ],
)
def test_what_is_not_locked_is_refused(project, machine, marker, text, lock):
    (project / marker).write_text(text)
    with pytest.raises(InputError, match="not fixed"):
        plan(asked(project, machine))
    assert plan(asked(project, machine, unlocked=True)).lock == ""
    (project / lock).touch()
    assert plan(asked(project, machine)).lock == lock


@pytest.mark.parametrize(
    ("marker", "text"), [("go.mod", "module x\n"), ("package.json", "{}"), ("pyproject.toml", "[project]\n")]
)
def test_what_needs_nothing_needs_no_lock(project, machine, marker, text):
    (project / marker).write_text(text)
    assert plan(asked(project, machine)).lock == ""


def test_cargo_is_told_that_the_lock_file_is_locked_but_not_that_it_is_offline():
    cargo = available(None)["cargo"]
    assert locked_command(cargo, ["cargo", "build", "-r"]) == ("cargo", "build", "--locked", "-r")
    assert locked_command(cargo, ["cargo", "+x", "test", "--", "a"]) == (
        "cargo",
        "+x",
        "test",
        "--locked",
        "--",
        "a",
    )
    assert locked_command(cargo, ["cargo", "build", "--locked"]) == ("cargo", "build", "--locked")
    assert locked_command(cargo, ["cargo", "--version"]) == ("cargo", "--version")
    assert locked_command(cargo, ["make", "build"]) == ("make", "build")


def test_only_the_outputs_are_writable(project, machine):
    (project / "Cargo.toml").touch()
    (project / "Cargo.lock").touch()
    shown = binds(plan(asked(project, machine)))
    assert {target for target, item in shown.items() if item.writable} == {f"{PROJECT}/target"}
    assert not shown[PROJECT].writable


def test_where_the_whole_project_is_writable_version_control_is_not(project, machine):
    (project / ".git/hooks").mkdir(parents=True)
    shown = binds(plan(asked(project, machine)))
    assert shown[PROJECT].writable
    assert not shown[f"{PROJECT}/.git"].writable


def test_an_output_that_is_a_link_is_refused(project, machine, tmp_path):
    (project / "Cargo.toml").touch()
    (project / "Cargo.lock").touch()
    (project / "target").symlink_to(tmp_path)
    with pytest.raises(InputError, match="lead anywhere"):
        plan(asked(project, machine))


def test_a_home_directory_is_no_project(project, machine):
    for place in (project.parent, project.parent.parent, Path("/"), Path("/etc"), Path("/usr/share")):
        with pytest.raises(UsageError):
            plan(Request(command=("true",), project=place, system=machine, env={"HOME": str(project.parent)}))


def test_the_environment_is_what_is_fixed_and_what_is_allowed(project, machine):
    (project / "Makefile").touch()
    env = {"CFLAGS": "-O3", "LDFLAGS": "-s", "OTHER": "x", "MY_TOKEN": "hush"}
    made = plan(asked(project, machine, env=env, allow_env=("CFLAGS", "MY_TOKEN", "ABSENT")))
    given = made.build.sandbox.env
    assert given["CFLAGS"] == "-O3"
    assert "LDFLAGS" not in given
    assert "OTHER" not in given
    assert made.withheld == ("LDFLAGS",)
    said = [item.to_json() for item in made.allowed]
    assert "hush" not in str(said)
    assert {"name": "ABSENT", "set": False} in said
    with pytest.raises(UsageError):
        plan(asked(project, machine, allow_env=("A=B",)))


def test_hidden_configuration_is_named(project, machine):
    (project / "Cargo.toml").touch()
    (project / "Cargo.lock").touch()
    for place in (project.parent, project.parent.parent):
        (place / ".cargo").mkdir()
        (place / ".cargo/config.toml").touch()
    made = plan(asked(project, machine))
    assert {str(project.parents[n] / ".cargo/config.toml") for n in (0, 1)} <= set(made.hidden)


def test_usr_local_is_hidden_unless_it_is_declared(project, machine):
    operations = plan(asked(project, machine)).build.sandbox.operations
    assert Tmpfs(target="/usr/local", mode=0o755) in operations


def test_declared_paths_are_shown_at_their_own_place_or_in_the_projects(project, machine, tmp_path):
    (tmp_path / "sdk").mkdir()
    (project / "gen").mkdir()
    shown = binds(
        plan(asked(project, machine, profile="cmake", read=(str(tmp_path / "sdk"),), write=("gen",)))
    )
    assert not shown[str(tmp_path / "sdk")].writable
    assert shown[f"{PROJECT}/gen"].writable
    for path in ("/", "/proc", "/proc/1", "/dev", "/etc", "/nonexistent"):
        with pytest.raises(UsageError):
            plan(asked(project, machine, read=(path,)))


def test_no_cc_covers_every_compiler_once(project, machine):
    shown = binds(plan(asked(project, machine, no_cc=True)))
    covered = {target for target, item in shown.items() if item.source == "/dev/null"}
    assert covered == {"/usr/bin/gcc", "/usr/bin/x86_64-linux-gnu-g++-12"}


def test_a_linker_is_forced_where_the_profile_knows_how(project, machine):
    made = plan(asked(project, machine, profile="make", linker="lld"))
    assert made.build.sandbox.env["LDFLAGS"] == "-fuse-ld=lld"
    with pytest.raises(UsageError, match="knows no way"):
        plan(asked(project, machine, profile="npm", linker="lld"))


def test_only_the_fetch_step_has_the_network_the_configuration_and_a_writable_cache(project, machine):
    home = project.parent
    (project / "Cargo.toml").touch()
    (project / "Cargo.lock").touch()
    (home / ".cargo/registry/cache").mkdir(parents=True)
    (home / ".cargo/config.toml").touch()
    made = plan(asked(project, machine, fetch=True, env={"CARGO_NET_RETRY": "9", "https_proxy": "p"}))
    fetch, build = (
        {item.target: item for item in step.sandbox.operations if isinstance(item, Bind)}
        for step in made.steps
    )
    assert [step.sandbox.network for step in made.steps] == [True, False]
    cache, config = "/home/build/.cargo/registry/cache", "/home/build/.cargo/config.toml"
    assert fetch[cache].writable
    assert not build[cache].writable
    assert config in fetch
    assert config not in build
    assert not fetch[PROJECT].writable
    assert "https_proxy" in made.steps[0].sandbox.env
    assert "https_proxy" not in made.build.sandbox.env


def test_a_plan_can_be_printed(project, machine):
    assert any(line.startswith("bind-rw") for line in plan(asked(project, machine)).describe())


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        ("pyproject.toml", "dependencies = [" + "#" * 100_000),
        ("pyproject.toml", "dependencies = [" + "# \n" * 100_000),
        ("pyproject.toml", "\n" * 500_000),
        ("go.mod", "\n" * 500_000),
        ("package.json", '"dependencies": ' * 50_000),
    ],
)
def test_a_hostile_marker_file_takes_no_time(project, machine, marker, text):
    (project / marker).write_text(text)
    started = time.process_time()
    plan(asked(project, machine))
    assert time.process_time() - started < 2


def test_a_marker_that_is_no_file_is_not_waited_for(project, machine):
    os.mkfifo(project / "go.mod")
    assert plan(asked(project, machine, profile="go")).lock == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_found_by_each_of_its_markers_as_among_all(project, name):
    everything = available(None)
    for marker in everything[name].markers:
        (project / marker).parent.mkdir(parents=True, exist_ok=True)
        (project / marker).touch()
        assert available(None, project=project)[name] == everything[name]
        (project / marker).unlink()
        assert name not in available(None, project=project)


def test_a_profile_of_the_user_is_read_whatever_the_project_holds(project, tmp_path):
    (tmp_path / "mine.toml").write_text('markers = ["a"]\n')
    assert list(available(tmp_path, project=project)) == ["mine"]


def test_what_compilers_look_for_in_usr_local_is_told_together_unless_it_is_there():
    def absent(path):
        return Outside(path=path, hidden=False, inside=path)

    hidden = Outside(path="/usr/local/include/x.h", hidden=True, inside="/usr/local/include/x.h")
    home = Outside(path="~/.gitconfig", hidden=False, inside="/home/build/.gitconfig")
    items = (hidden, home, absent("/usr/local/include/a.h"), absent("/usr/local/include/sys/b.h"))
    assert shortened(items) == (
        "/usr/local/include/x.h (hidden)",
        "~/.gitconfig (absent)",
        "/usr/local/include (absent, 2 times)",
    )
    assert shortened([absent("/usr/local/ssl/openssl.cnf")]) == ("/usr/local/ssl (absent)",)


def test_a_part_of_a_project_is_told_where_the_lock_file_is(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part/Cargo.toml").touch()
    request = Request(command=("cargo", "build"), project=tmp_path / "part")
    with pytest.raises(InputError) as told:
        plan(request)
    assert "--unlocked; with --rw ." in str(told.value.hint)
    (tmp_path / "Cargo.lock").touch()
    with pytest.raises(InputError) as told:
        plan(request)
    assert f"--project {tmp_path}" in str(told.value.hint)


def test_what_a_link_of_the_system_leads_to_and_is_not_shown_is_told(tmp_path, monkeypatch):
    """Debian's JDK has its settings in /etc, and links to them in /usr."""
    from belljar.hermetic import reached
    from belljar.sandbox import How, Lookup

    monkeypatch.setattr(reached, "_SYSTEM", (str(tmp_path / "usr"),))
    monkeypatch.setattr(reached, "_PRIVATE", ())
    for name in ("usr/real", "etc/settings"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "usr/link").symlink_to(tmp_path / "etc/settings")
    seen = reached.Reached()
    for name in ("usr/link", "usr/real", "usr/absent"):
        seen(Lookup(path=str(tmp_path / name), how=How.READ, found=False, program="", pid=1))
    told = seen.outside(tmp_path, None, Path("/"))
    assert [(item.path, item.hidden) for item in told] == [(str(tmp_path / "etc/settings"), True)]
    assert seen.outside(tmp_path, None, tmp_path) == ()


def test_profiles_that_may_not_be_read_are_told_and_not_passed_over(tmp_path, monkeypatch):
    """As with `sudo -E`; root, who may read everything, cannot be refused otherwise."""
    listed = os.listdir

    def refuse(path):
        if path == tmp_path / "profiles":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", refuse)
    (tmp_path / "profiles").mkdir()
    with pytest.raises(InputError, match="profiles: Permission denied"):
        available(tmp_path / "profiles", project=tmp_path)
