"""Lists of directories and names inside a root."""

import errno
import os
import time

import pytest

from belljar.ldso.paths import Tokens, expand, glibc_directories, musl_directories
from belljar.ldso.root import Root

TOKENS = Tokens("/opt/bin", "lib64", "x86_64")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("/plain", "/plain"),
        ("$ORIGIN/../lib", "/opt/bin/../lib"),
        ("${ORIGIN}lib", "/opt/binlib"),
        ("$ORIGINlib", "$ORIGINlib"),
        ("${ORIGIN/x", "${ORIGIN/x"),
        ("$ORIGIN$LIB/$PLATFORM", "/opt/binlib64/x86_64"),
        ("$", "$"),
        ("$$ORIGIN", "$/opt/bin"),
        ("$LIBS", "$LIBS"),
    ],
)
def test_tokens_end_where_names_end(text, want):
    assert expand(text, TOKENS) == want


def test_an_entry_with_a_token_that_stands_for_nothing_is_left_out():
    tokens = TOKENS._replace(platform=None)
    assert expand("/a/$PLATFORM", tokens) is None
    assert [item for item, _ in glibc_directories("/a/$PLATFORM:/b", tokens)] == ["/b/"]


def test_glibc_keeps_empty_entries_and_musl_does_not():
    assert [item for item, _ in glibc_directories("/a//::b", TOKENS)] == ["/a/", "", "b/"]
    assert [item for item, _ in glibc_directories("/a;/b", TOKENS, ":;")] == ["/a/", "/b/"]
    assert [item for item, _ in glibc_directories("", TOKENS)] == []
    assert [item for item, _ in musl_directories("/a/::b\n/c", None)] == ["/a//", "b/", "/c/"]


def test_musl_passes_over_a_list_with_a_token_that_it_does_not_know():
    assert [item for item, _ in musl_directories("$ORIGIN/x:/a", "/o")] == ["/o/x/", "/a/"]
    assert list(musl_directories("$LIB/x:/a", "/o")) == []
    assert list(musl_directories("$ORIGIN/x:/a", None)) == []


def test_tokens_cannot_blow_a_path_up():
    started = time.perf_counter()
    text = "$ORIGIN" * 200_000
    assert expand(text, TOKENS._replace(origin="/o" * 2000)) is None
    assert list(musl_directories(text, "/o" * 2000)) == []
    assert time.perf_counter() - started < 1


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("host")
    top = tmp_path / "root"
    (top / "usr/lib").mkdir(parents=True)
    (top / "usr/lib/a").write_text("a")
    (top / "lib").symlink_to("/usr/lib")
    (top / "up").symlink_to("../../../../usr/lib/a")
    (top / "host").symlink_to(tmp_path / "outside/secret")
    (top / "loop").symlink_to("loop")
    return top


def test_links_mean_in_a_root_what_they_mean_after_chroot(tree):
    root = Root(tree)
    for path in ("/lib/a", "/up", "/../lib/./a", "//usr/lib/../lib/a"):
        assert root.locate(path).path == "/usr/lib/a"
        assert root.locate(path).host == str(tree / "usr/lib/a")
    assert root.is_directory("/lib")
    assert not root.is_directory("/lib/a")


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/host", errno.ENOENT),
        ("/../outside/secret", errno.ENOENT),
        ("/loop", errno.ELOOP),
        ("/lib/a/", errno.ENOTDIR),
        ("/lib/a/..", errno.ENOTDIR),
        ("/nowhere/../lib/a", errno.ENOENT),
        ("/" + "x" * 300, errno.ENAMETOOLONG),
        ("/x" * 3000, errno.ENAMETOOLONG),
    ],
)
def test_what_the_kernel_would_refuse_is_refused_with_its_number(tree, path, number):
    with pytest.raises(OSError) as caught:
        Root(tree).locate(path)
    assert caught.value.errno == number


def test_in_the_hosts_own_root_names_lead_where_the_kernel_leads_them():
    root = Root("/")
    for path in ("/bin/sh", "/usr/bin/env", "/lib/../etc/passwd", "/dev/fd/../stdin/.."):
        if not os.path.exists(path):
            continue
        assert os.path.samefile(root.locate(path).host, path)
