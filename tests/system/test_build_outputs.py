"""Whatever a script leaves: an artifact that is sound and plain, or a clear refusal and nothing at all."""

import json
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from test_build_support import alive, belljar, home, home_of, leftovers, recipe

from belljar.build import GuaranteeError, build, output
from belljar.errors import BuildError, InputError
from belljar.placeholder import TAIL
from belljar.relocate.install import install, plan
from belljar.store import Store


@pytest.fixture(scope="module")
def kitchen():
    with tempfile.TemporaryDirectory() as scratch:
        yield home_of(home(Path(scratch) / "home"))


@pytest.fixture
def made(tmp_path, kitchen):
    """Build what a script leaves: `made(script, portability)`; the store is sound, nothing is left."""

    def make(script: str, portability: str = "relocatable = true"):
        return build(recipe(tmp_path / "recipe", script, portability=portability), home=kitchen)

    yield make
    store = Store(directory=kitchen.store)
    for name in store.names():
        assert store.verify(name) == ()
    assert leftovers(kitchen.data) == []


def _stored(kitchen) -> list[str]:
    return [str(name) for name in Store(directory=kitchen.store).names()]


def test_an_artifact_has_one_time_and_no_modes_but_the_executable_bit(made):
    artifact = made(
        """
        cd "$PREFIX"; mkdir -m 2777 d; echo x > d/f; echo x > suid; echo x > none; echo x > x
        chmod 6755 suid; chmod 000 none; chmod 700 x; touch -d @99 d/f; chmod 500 d
        """
    )
    found = {}
    for path in [artifact.path, *artifact.path.rglob("*")]:
        info = path.lstat()
        found[path.name] = oct(stat.S_IMODE(info.st_mode))
        assert info.st_mtime == 315_619_200 or path == artifact.path
    found.pop(artifact.path.name)
    assert found == {"d": "0o555", "f": "0o444", "suid": "0o555", "none": "0o444", "x": "0o555"}


def test_a_directory_that_nobody_may_read_is_stored_like_any_other(made):
    artifact = made('mkdir -p "$PREFIX/d/e"; echo x > "$PREFIX/d/e/f"; chmod 000 "$PREFIX/d/e" "$PREFIX/d"')
    assert (artifact.path / "d/e/f").read_text() == "x\n"


def test_a_prefix_that_was_closed_is_opened(made):
    assert (made('echo x > "$PREFIX/f"; chmod 000 "$PREFIX"').path / "f").read_text() == "x\n"


def test_hard_links_and_holes_are_kept(made):
    artifact = made('cd "$PREFIX"; truncate -s 50M hole; echo x > a; ln a b')
    assert (artifact.path / "hole").stat().st_size == 50 << 20
    assert (artifact.path / "hole").stat().st_blocks < 1000
    assert (artifact.path / "a").stat().st_ino == (artifact.path / "b").stat().st_ino


def test_names_of_any_bytes_are_stored_and_shown(made, kitchen, tmp_path):
    artifact = made(
        """cd "$PREFIX"; echo x > "$(printf 'a\\377\\033[31m\\nb')"; ln -s "$(printf '\\376')" l"""
    )
    assert sorted(os.listdir(os.fsencode(artifact.path))) == [b"a\xff\x1b[31m\nb", b"l"]
    (odd,) = [path for path in artifact.path.iterdir() if path.name != "l"]
    os.chmod(odd, 0o644)
    odd.write_text("changed")
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    done = belljar("store", "verify", str(artifact.name), home=kitchen.data, **strict)
    assert done.returncode == 6
    assert r"a\xff\x1b[31m\nb: changed" in done.stdout
    done = belljar("store", "verify", "--format", "json", str(artifact.name), home=kitchen.data, **strict)
    (damage,) = json.loads(done.stdout)["entries"][0]["damage"]
    assert os.fsencode(damage["path"]) == b"a\xff\x1b[31m\nb"
    odd.write_text("x\n")
    os.chmod(odd, 0o444)
    install(plan(Store(directory=kitchen.store), artifact.name, tmp_path / "there"))
    assert belljar("store", "verify", "--at", tmp_path / "there", home=kitchen.data).returncode == 0


def test_links_that_loop_dangle_or_lead_outside_are_kept_as_they_are(made):
    links = {"loop": "loop", "abroad": "/etc/passwd", "up": "../../../..", "gone": "nowhere"}
    script = "\n".join(f'ln -s "{goal}" "$PREFIX/{name}"' for name, goal in links.items())
    artifact = made(script)
    assert {path.name: os.readlink(path) for path in artifact.path.iterdir()} == links


def test_a_tree_as_deep_as_the_kernel_takes_is_stored_and_removed_again(made, kitchen):
    artifact = made(
        """
        cd "$PREFIX"; p=$(printf 'd/%.0s' $(seq 1200)); mkdir -p "$p"; echo x > "$p/f"
        """
    )
    Store(directory=kitchen.store).remove(artifact.name)
    assert str(artifact.name) not in _stored(kitchen)


def test_paths_longer_than_the_kernel_takes_are_refused(made, kitchen):
    before = _stored(kitchen)
    deep = """
        cd "$PREFIX"; p=$(printf 'd/%.0s' $(seq 1200))
        for i in 1 2; do mkdir -p "$p"; cd -P "$p"; done; echo x > f
        """
    with pytest.raises(InputError, match="4096 bytes"):
        made(deep)
    assert _stored(kitchen) == before


SPECIAL = {
    "a pipe": 'mkfifo "$PREFIX/p"; echo x > "$PREFIX/f"',
    "a pipe deep down": 'mkdir -p "$PREFIX/a/b"; mkfifo "$PREFIX/a/b/p"',
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_refused_by_name(kind, made, kitchen):
    before = _stored(kitchen)
    with pytest.raises(InputError, match="p: a device, socket or pipe"):
        made(SPECIAL[kind])
    assert _stored(kitchen) == before


def test_a_socket_is_refused_like_a_pipe(tmp_path):
    (tmp_path / "f").write_text("x")
    assert output.normalise(tmp_path) == 1
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        with pytest.raises(InputError, match=r"s: a device, socket or pipe \(1 in all\)"):
            output.normalise(tmp_path)


def test_a_device_cannot_even_be_made(made):
    with pytest.raises(BuildError, match="exit status"):
        made('mknod "$PREFIX/null" c 1 3')


def test_a_script_that_leaves_nothing_is_refused(made, kitchen):
    before = _stored(kitchen)
    with pytest.raises(InputError, match=r"left nothing in \$PREFIX"):
        made("true")
    assert _stored(kitchen) == before


def test_a_background_process_ends_with_the_script(made):
    artifact = made('echo x > "$PREFIX/f"; sleep 98765 & (sleep 98765 &)')
    assert (artifact.path / "f").exists()
    assert alive("98765") == []


# What relocation does not rewrite: a script that leaves it, and how it is named.
TRACES = {
    "a piece": ('echo "$PREFIX" | cut -c1-60 > "$PREFIX/piece"', "piece: offset 0: bytes 0..60 of the"),
    "a piece in wide characters": (
        """printf %s "$PREFIX" | cut -c1-60 | fold -w1 | tr '\\n' '\\0' > "$PREFIX/wide\"""",
        "wide: offset 0: bytes 0..60 of the placeholder as UTF-16",
    ),
    "a file's name": ('touch "$PREFIX/$(echo "$PREFIX" | cut -c2-60)"', "of the placeholder, in the name"),
}


@pytest.mark.parametrize("trace", TRACES)
def test_what_cannot_be_rewritten_is_refused_where_relocation_is_promised(trace, made, kitchen):
    script, named = TRACES[trace]
    before = _stored(kitchen)
    with pytest.raises(GuaranteeError) as caught:
        made(script)
    assert caught.value.exit_code == 1
    assert named in caught.value.unsupported[0]
    assert _stored(kitchen) == before


@pytest.mark.parametrize("trace", TRACES)
def test_where_relocation_is_not_promised_it_is_stored_and_install_says_why_not(
    trace, made, kitchen, tmp_path
):
    artifact = made(TRACES[trace][0], "")
    assert not artifact.record.relocatable
    done = belljar("install", str(artifact.name), "--to", tmp_path / "there", home=kitchen.data)
    assert done.returncode == 3
    assert "cannot be moved" in done.stderr
    assert TRACES[trace][1] in done.stderr
    assert not (tmp_path / "there").exists()


def test_the_program_shows_what_is_refused(tmp_path, kitchen):
    directory = recipe(tmp_path / "recipe", 'echo "$PREFIX" | cut -c1-60 > "$PREFIX/piece"')
    done = belljar("build", "--no-link", directory, home=kitchen.data)
    assert done.returncode == 1
    assert "cannot be moved: piece: offset 0: bytes 0..60 of the placeholder" in done.stdout
    assert "does not meet what the recipe guarantees" in done.stderr


def test_references_point_to_the_store_and_the_program_runs_from_there(made, kitchen):
    artifact = made(
        """
        mkdir "$PREFIX/bin"
        printf '#!/bin/sh\\necho %s\\n' "$PREFIX" > "$PREFIX/bin/say"; chmod +x "$PREFIX/bin/say"
        """
    )
    said = os.popen(str(artifact.path / "bin/say")).read().strip()
    assert TAIL in said
    assert os.path.samefile(said, artifact.path)
