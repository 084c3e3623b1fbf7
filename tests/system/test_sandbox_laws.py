"""The laws of the sandbox, each seen from inside by a program run by root and by an ordinary user."""

import errno
import json
import os
import resource
import stat
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from test_sandbox_support import (
    AS_ROOT,
    BOX,
    CLONE_NEWNS,
    IDENTITIES,
    INSIDE,
    OWN,
    SECRET,
    TRY,
    be_root_of_own_namespaces,
    box_for,
    in_child,
    kernel,
    look,
    output_of,
    planted,
    python,
)

from belljar.sandbox import Bind, Devices, Directory, File, Sandbox, SandboxError, Symlink, Tmpfs, run


@pytest.fixture(scope="module", params=IDENTITIES)
def seen(request):
    with planted() as plant:
        yield look(request.param, plant)


@pytest.fixture(scope="module", params=IDENTITIES)
def tried(request):
    """What happens to a program that tries to get out, helped by a device node and a setuid program."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    (directory / "id").write_bytes(Path(os.path.realpath("/usr/bin/id")).read_bytes())
    (directory / "id").chmod(0o4755)
    if AS_ROOT:
        os.mknod(directory / "zero", 0o20666, os.makedev(1, 5))
        (directory / "zero").chmod(0o666)
        with (directory / "zero").open("rb") as device:
            assert device.read(1) == b"\0"
    binds = (Bind(source=str(directory), target="/planted"), Bind(source=str(directory), target="/suid"))
    box = box_for(request.param)
    box = replace(box, operations=(*box.operations, *binds))
    places = json.dumps(["", "/usr", "/etc", "/dev", "/proc", "/planted", "/tmp", "/dev/shm"])
    yield json.loads(
        in_child(lambda: output_of(box, python(TRY, places)), ordinary=request.param == "ordinary")
    )
    subprocess.run(["rm", "-r", str(directory)], check=True)


def test_nothing_of_the_host_is_visible(seen):
    assert not any(seen["exists"].values())
    own = {INSIDE[1:].split("/")[0]} if OWN else set()
    assert set(seen["root"]) <= {"bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "tmp", "usr"} | own
    assert SECRET not in json.dumps(seen)


def test_there_is_no_network_but_a_working_loopback(seen):
    assert seen["interfaces"] == ["lo"]
    assert seen["loopback"] == "done"
    assert seen["host port"] == "Connection refused"
    assert seen["abstract"] == "Connection refused"


def test_identity_is_fixed(seen):
    assert seen["ids"] == [1000, 1000, 100, 100]
    assert set(seen["groups"]) <= {65534}
    assert seen["names"] == ["localhost", "(none)"]
    assert seen["umask"] == 0o022
    assert seen["cwd"] == "/"


def test_environment_is_exactly_what_was_given(seen):
    assert {name: value for name, value in seen["env"].items() if name != "LC_CTYPE"} == BOX.env


def test_no_descriptor_is_inherited_and_stdin_is_empty(seen):
    assert seen["stdin"] == [1, 3]  # the null device
    assert seen["fds"] == [0, 1, 2]


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("devices", [True, False])
def test_the_hosts_null_device_cannot_be_changed_by_what_is_read(identity, devices):
    text = (
        "import os\ntry: os.fchmod(0, 0o666)\nexcept OSError as error: print(error.errno)\n"
        "else: print(os.readlink('/proc/self/fd/0'))\nprint(os.read(0, 1))"
    )

    def action():
        box = box_for(identity)
        kept = tuple(item for item in box.operations if devices or not isinstance(item, Devices))
        return output_of(replace(box, operations=kept), python(text)).split()

    changed, read = in_child(action, ordinary=identity == "ordinary")
    assert changed == str(errno.EROFS) if devices else changed.startswith("pipe:")
    assert read == "b''"


def test_soft_limits_of_the_caller_do_not_reach_inside():
    def action():
        text = "grep -v -e processes -e signals /proc/self/limits"
        seen = [output_of(BOX, ["/bin/sh", "-c", text])]
        outside = [subprocess.check_output(["/bin/sh", "-c", text], text=True)]
        for name in ("AS", "CPU", "DATA", "FSIZE", "MEMLOCK", "MSGQUEUE", "NOFILE", "STACK"):
            which = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(which)[1]
            resource.setrlimit(which, (64 << 30 if name in {"AS", "DATA", "FSIZE"} else 600, hard))
            if name == "STACK":
                resource.setrlimit(which, (4 << 20, hard))
            outside.append(subprocess.check_output(["/bin/sh", "-c", text], text=True))
        assert len(set(outside)) == len(outside)
        return [*seen, output_of(BOX, ["/bin/sh", "-c", text])]

    before, after = in_child(action)
    assert before == after


def test_there_is_no_controlling_terminal(seen):
    assert seen["session"]
    assert seen["tty"] == "No such device or address"


def test_limits_are_fixed(seen):
    ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)[1] % 2**64
    assert seen["nofile"] == [min(1024, ceiling), min(4096, ceiling)]
    assert seen["core"] == [1, 1]
    assert seen["stack"] == 8 << 20


def test_signals_are_neither_blocked_nor_ignored_nor_pending(seen):
    blocked, ignored, *pending = (int(mask, 16) for mask in seen["signals"])
    assert (blocked, pending) == (0, [0, 0])
    # Python itself ignores SIGPIPE and SIGXFSZ; 32 and 33 are the libc's own, ignored by posix_spawn.
    assert ignored & ~(1 << 12 | 1 << 24 | 1 << 31 | 1 << 32) == 0


def test_there_are_no_rights(seen):
    assert {int(mask, 16) for mask in seen["caps"]} == {0}
    assert seen["no new privileges"] == "1"


def test_process_1_shows_nothing(seen):
    assert 1 not in seen["processes"]
    assert SECRET not in "".join(seen["init"])
    assert not any("pytest" in words for words in [*seen["init"], *seen["processes' words"]])
    assert set(seen["directories"]) == {"/"}


def test_ipc_and_keys_are_separate(seen):
    assert seen["shared memory"] == 0
    assert seen["key"] == "Required key not available"


def test_control_group_is_a_root(seen):
    assert {line.rpartition(":")[2] for line in seen["cgroup"].split()} == {"/"}


@pytest.mark.parametrize("identity", IDENTITIES)
def test_addresses_are_the_same_each_time(identity):
    with planted() as plant:
        first, second = (look(identity, plant)["addresses"] for _ in range(2))
    assert first == second


def test_nothing_can_be_written_but_what_is_writable(tried):
    done = {place for place, what in tried["write"].items() if what == "done"}
    assert done == {"/tmp", "/dev/shm"}


def test_kernel_settings_cannot_be_written(tried):
    assert tried["sysctl"] in {"Read-only file system", "Permission denied"}


def test_devices_can_be_used_but_not_changed(tried):
    assert tried["use of a device"] == ["done", "done"]
    assert tried["mode of a device"] != "done"
    assert tried["mknod"] == "Operation not permitted"
    assert tried["planted device"] != "done"


def test_setuid_programs_give_no_rights(tried):
    assert tried["setuid"] == "done"
    assert tried["setuid call"] == "Invalid argument"
    assert tried["setgroups"] == "Operation not permitted"


def test_nothing_can_be_mounted_or_changed_back(tried):
    for what in ("mount", "remount", "unmount", "hostname", "remount nested"):
        assert tried[what] == "Operation not permitted", what
    assert tried["nested"] == "No space left on device"


def test_process_1_can_neither_be_killed_nor_looked_into(tried):
    assert tried["kill init"] == "done"
    assert tried["ptrace init"] == "Operation not permitted"


def shell(*operations, text, **fields):
    """Return what a shell text prints in the common sandbox with more operations."""
    box = replace(BOX, operations=(*BOX.operations, *operations), **fields)
    return output_of(box, ["/bin/sh", "-c", text])


def test_nested_namespaces_can_be_allowed_and_open_nothing():
    text = TRY.split("print(json.dumps")[0] + (
        "print(call(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS)),"
        " call(libc.mount(None, b'/usr', None, MS_REMOUNT | MS_BIND, None)), call(libc.umount2(b'/usr', 2)))"
    )
    assert output_of(replace(BOX, nested=True), python(text)).strip() == (
        "done Operation not permitted Invalid argument"
    )


def test_what_is_bound_writable_is_written_through(tmp_path):
    shell(Bind(source=str(tmp_path), target="/out", writable=True), text="echo made > /out/file", umask=0o027)
    assert (tmp_path / "file").read_text() == "made\n"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert (tmp_path / "file").stat().st_uid == os.geteuid()


def test_read_only_holds_for_submounts(tmp_path):
    """A writable mount below a read-only bind, made in a sandbox of its own that binds it recursively."""
    (tmp_path / "sub").mkdir()

    def action():
        be_root_of_own_namespaces(CLONE_NEWNS)
        kernel.make_private("/")
        kernel.place(kernel.filesystem("tmpfs", 0, mode="0777"), str(tmp_path / "sub"))
        (tmp_path / "sub" / "here").write_text("")
        bind = Bind(source=str(tmp_path), target="/in")
        return shell(bind, text="ls /in/sub; touch /in/sub/x 2>&1 || true")

    seen = in_child(action)
    assert "here" in seen
    assert "Read-only file system" in seen


def test_links_in_a_bind_source_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("through")
    (tmp_path / "link").symlink_to("real")
    assert shell(Bind(source=str(tmp_path / "link"), target="/in"), text="cat /in/file") == "through"


def test_a_relative_bind_source_is_the_callers(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("relative")
    monkeypatch.chdir(tmp_path)
    assert shell(Bind(source="file", target="/in/file"), text="cat /in/file") == "relative"


def test_a_file_holds_exactly_its_text():
    text = "a\r\nb\n\x00\udcff\n"
    made = shell(File(target="/etc/x", text=text), text="od -An -c /etc/x | tr -d ' \\n'")
    assert made == r"a\r\nb\n\0377\n"


def test_deeper_targets_come_last_whatever_their_order():
    operations = (File(target="/a/b/c/file", text="deep"), Tmpfs(target="/a/b/c"), Directory(target="/a/b"))
    assert shell(*operations, text="cat /a/b/c/file; ls /a") == "deepb\n"


def test_a_bind_can_be_the_root_and_take_mounts(tmp_path):
    for name in ("usr", "proc", "tmp", "dev", "inner", *([INSIDE[1:]] if OWN else [])):
        (tmp_path / name).mkdir()
    for operation in BOX.operations:
        if isinstance(operation, Symlink):
            (tmp_path / operation.target[1:]).symlink_to(operation.link)
        elif isinstance(operation, Bind):
            (tmp_path / operation.target[1:]).mkdir(exist_ok=True)
    (tmp_path / "planted").write_text("root")
    inner = [operation for operation in BOX.operations if isinstance(operation, Bind)]
    box = Sandbox(operations=(Bind(source=str(tmp_path), target="/"), *inner))
    assert output_of(box, ["/bin/sh", "-c", "cat /planted; touch /x 2>&- || echo -n read-only"]) == (
        "rootread-only"
    )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("where", ["/old/tmp", "/../../..", "{host}"])
def test_a_hostile_tree_cannot_lead_a_target_out(tmp_path, where):
    """A package may hold any link; what is put below it must stay inside."""
    tree, host = tmp_path / "tree", tmp_path / "host"
    (tree / "sub").mkdir(parents=True)
    host.mkdir()
    (tree / "sub" / "etc").symlink_to(where.format(host=host))
    box = Sandbox(
        operations=(
            *BOX.operations,
            Bind(source=str(tree), target="/env"),
            File(target="/env/sub/etc/escaped", text="x"),
        )
    )
    try:
        run(box, ["/bin/true"])
    except SandboxError as error:
        assert error.step.startswith("file /env/sub/etc/escaped")
    assert list(host.iterdir()) == []
    assert not Path("/tmp/escaped").exists()
    assert not Path("/escaped").exists()


def test_a_target_below_a_read_only_tree_must_exist(tmp_path):
    (tmp_path / "there").mkdir()
    mount = Bind(source=str(tmp_path), target="/env")
    assert shell(mount, Tmpfs(target="/env/there"), text="touch /env/there/x; echo ok") == "ok\n"
    with pytest.raises(SandboxError, match="tmpfs /env/missing") as caught:
        shell(mount, Tmpfs(target="/env/missing"), text="true")
    assert "must exist" in (caught.value.hint or "")


def test_a_file_can_be_put_over_a_file_of_a_read_only_tree(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "config").write_text("old")
    (tmp_path / "new").write_text("new")
    binds = (
        Bind(source=str(tmp_path / "tree"), target="/env"),
        Bind(source=str(tmp_path / "new"), target="/env/config"),
    )
    assert shell(*binds, text="cat /env/config") == "new"


def test_a_sandbox_without_proc_or_devices_works():
    operations = tuple(item for item in BOX.operations if isinstance(item, Bind | Symlink))
    assert output_of(Sandbox(operations=operations), ["/bin/sh", "-c", "echo /*"]).startswith("/bin /lib")
