"""Where contents differ, what kind of thing that is, and which influences it points to."""

import gzip
import io
import os
import shutil
import struct
import tarfile
import zipfile

import pytest

from belljar.build.compare import Aspect
from belljar.errors import UsageError
from belljar.reproduce.difference import Difference, of_contents
from belljar.reproduce.evidence import FILE_TIMES, judge
from belljar.reproduce.noise import noise_of
from belljar.reproduce.parts import parts
from belljar.reproduce.trees import Compared, Metadata, differences, matches
from belljar.reproduce.variation import ALL, Kind, chosen, variable, world_of
from belljar.reproduce.world import World
from belljar.sandbox import Bind, Sandbox, Symlink, Tmpfs

DAY = 86_400


def evidence(before: str, after: str):
    return judge(Difference(path="a", before=before, after=after), ALL, now=1.8e9)


def tar_of(mtime: int = 0, names: tuple[str, ...] = ("x", "y"), content: bytes = b"same\n") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), mtime
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(date: tuple[int, ...] = (1980, 1, 2, 0, 0, 0)) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("x", date), "same")  # type: ignore[arg-type] # six numbers
    return buffer.getvalue()


def found(left: bytes, right: bytes) -> list[tuple[str, str, str]]:
    return [(item.part, item.before, item.after) for item in of_contents("a", left, right)]


def test_contents_that_are_the_same_do_not_differ():
    for data in (b"", b"text\n", tar_of(), zip_of(), gzip.compress(b"x"), b"\x7fELF" + bytes(60)):
        assert found(data, data) == []


def test_the_time_of_one_member_is_named_through_two_layers():
    left, right = (gzip.compress(tar_of(mtime), mtime=0) for mtime in (1, 2))
    assert found(left, right) == [
        ("data!(x) mtime", "mtime 1", "mtime 2"),
        ("data!(y) mtime", "mtime 1", "mtime 2"),
    ]


def test_headers_of_gzip_and_zip_are_read():
    assert found(gzip.compress(b"x", mtime=1), gzip.compress(b"x", mtime=2)) == [
        ("(header) mtime", "mtime 1", "mtime 2")
    ]
    changed = found(zip_of(), zip_of((1981, 2, 3, 0, 0, 0)))
    assert changed == [("(x) date", "date 1980-01-02 00:00:00", "date 1981-02-03 00:00:00")]


def test_what_info_zip_adds_to_a_member_is_read():
    def packed(mtime: int, uid: int) -> bytes:
        member = zipfile.ZipInfo("x")
        member.extra = struct.pack("<2sHBI", b"UT", 5, 1, mtime)
        member.extra += struct.pack("<2sHBBIBI", b"ux", 11, 1, 4, uid, 4, 100)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(member, "same")
        return buffer.getvalue()

    assert found(packed(1, 1000), packed(2, 4242)) == [
        ("(x) mtime", "mtime 1", "mtime 2"),
        ("(x) uid", "uid 1000", "uid 4242"),
    ]
    local = packed(1, 1000)
    assert found(local, local.replace(b"UT\5\0\1\1\0\0\0", b"UT\5\0\1\7\0\0\0", 1)) == [
        ("(x) mtime", "mtime 1", "mtime 7")
    ]


def test_members_in_another_order_are_an_order_and_nothing_else():
    (item,) = of_contents("a", tar_of(names=("x", "y")), tar_of(names=("y", "x")))
    assert judge(item, ALL).kind is Kind.ORDER


def test_lines_are_told_by_their_number_and_an_inserted_one_moves_no_other():
    assert found(b"a\nb\nc\n", b"a\nX\nc\n") == [("line 2", "b", "X")]
    assert found(b"a\nb\nc\nd\n", b"a\nnew\nb\nc\nd\n") == [("line 2", "", "new")]
    assert found(b"a\nb\nc\n", b"c\nb\na\n") == [("order of lines", "a b c", "c b a")]


def test_lines_that_change_and_the_order_of_the_others_are_told_apart():
    left, right = b"start\na\nb\nc\non localhost\nend\n", b"start\nc\non varied-host\na\nb\nend\n"
    assert found(left, right) == [
        ("order of lines", "a b c", "c a b"),
        ("line 5", "on localhost", "on varied-host"),
    ]
    assert found(b"a\nb\nc\n", b"c\nnew\na\nb\n") == [
        ("order of lines", "a b c", "c a b"),
        ("line 4", "", "new"),
    ]


def test_what_differs_at_every_build_hides_no_more_than_that():
    def line(after: str, before: str = "tmp.a1 of 2 on localhost") -> Difference:
        return Difference(path="a", part="line 1", before=before, after=after)

    noise = noise_of([line("tmp.b2 of 2 on localhost")])
    assert noise.hides(line("tmp.c3 of 2 on localhost"))
    assert not noise.hides(line("tmp.c3 of 5 on localhost"))
    assert noise.hides(line("tmp c3 of 5 on localhost"))
    assert not noise.hides(Difference(path="b", part="line 1", before="2", after="5"))
    numbers = noise_of([line("4 3 2 1", before="1 2 3 4")])
    assert numbers.hides(line("2 2 2 2", before="1 2 3 4"))


def test_names_that_are_new_at_every_build_are_noise_in_their_directory_only():
    def made(path: str) -> Difference:
        return Difference(path=path, before="missing", after="there", aspect=Aspect.MISSING)

    noise = noise_of([made("scratch/abc")])
    assert noise.hides(made("scratch/xyz"))
    assert not noise.hides(made("lib/xyz"))


def test_strings_of_binaries_and_numbers_that_mean_something_are_shown():
    left, right = b"\0\1\2same\0localhost\0", b"\0\1\2same\0varied-host\0"
    assert found(left, right) == [("", "localhost", "varied-host")]
    wide = [b"\1\2" + host.encode("utf-16-le") for host in ("localhost", "varied-host")]
    assert found(*wide) == [("", "localhost", "varied-host")]
    dates = [b"\0\1" + text + b"\0" for text in (b"Jan  2 1980", b"Feb  3 1981")]
    assert found(*dates) == [("", "Jan  2 1980", "Feb  3 1981")]
    times = [bytes(8) + struct.pack("<I", value) + bytes(8) for value in (315_619_200, 350_011_425)]
    assert found(*times) == [("", "315619200", "350011425")]
    pointers = [
        bytes(8) + struct.pack("<Q", value) + bytes(8) for value in (0x5555_5555_52A0, 0x55AA_0BCD_12A0)
    ]
    assert judge(next(of_contents("a", *pointers)), ALL).likely == {"aslr"}


def test_an_archive_that_is_cut_anywhere_is_compared_as_far_as_it_goes():
    for data in (
        gzip.compress(tar_of()),
        zip_of(),
        tar_of(),
        b"!<arch>\n" + b"x/".ljust(48) + b"99999     `\n",
    ):
        for size in range(0, len(data), max(1, len(data) // 97)):
            cut = data[:size]
            assert sum(map(len, parts(cut).values())) >= 0
            assert bool(found(data, cut)) == (data != cut)


def test_a_bomb_stays_packed(monkeypatch):
    monkeypatch.setattr("belljar.reproduce.parts._LIMIT", 1 << 20)
    packed = gzip.compress(gzip.compress(bytes(2 << 20)))
    assert all(len(part) < 1 << 20 for part in parts(packed).values())


def test_bombs_side_by_side_have_one_room(monkeypatch):
    monkeypatch.setattr("belljar.reproduce.parts._TOTAL", 5 << 20)
    archive = tar_of(names=tuple(map(str, range(20))), content=gzip.compress(bytes(1 << 20)))
    assert sum(map(len, parts(archive).values())) < 8 << 20


def test_many_lines_are_told_as_some_and_the_rest():
    left, right = (b"".join(b"%d%s\n" % (n, side) for n in range(9000)) for side in (b"a", b"b"))
    told = found(left, right)
    assert len(told) < 1100
    assert told[-1][0] == "more lines"


def test_names_that_are_no_text_are_compared_all_the_same(tmp_path):
    for side, text in (("left", "1"), ("right", "2")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "na\udcffme").write_text(text)
    (item,) = differences(tmp_path / "left", tmp_path / "right")
    assert item.path == "na\udcffme"


def test_a_file_in_one_tree_only_a_link_and_a_bit_are_differences(tmp_path):
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "link").symlink_to(side)
        (tmp_path / side / "tool").write_text("")
    (tmp_path / "left/only").write_text("")
    (tmp_path / "right/tool").chmod(0o755)
    assert [(item.path, item.aspect) for item in differences(tmp_path / "left", tmp_path / "right")] == [
        ("link", Aspect.TARGET),
        ("only", Aspect.MISSING),
        ("tool", Aspect.EXECUTABLE),
    ]
    compared = Compared(ignored=("only", "l*"), only=("only", "tool"))
    assert differences(tmp_path / "left", tmp_path / "right", compared)[0].path == "tool"


def test_patterns_match_names_directories_and_whole_paths():
    assert matches("a/b/c.o", ["*.o"])
    assert matches("a/b/c.o", ["b"])
    assert matches("a/b/c.o", ["a/b"])
    assert not matches("a/b/c.o", ["c", "b/c.o"])


@pytest.mark.parametrize(
    ("before", "after", "kind", "proved", "likely"),
    [
        ("on localhost", "on varied-host", Kind.HOST, {"host"}, set()),
        ("build", "varieduser", Kind.USER, {"user"}, set()),
        ("/build/x.c", "/varied/place/of/the/project/x.c", Kind.PATH, {"path"}, set()),
        ("Jan  2 2035", "Feb  4 2036", Kind.TIME, {"clock"}, set()),
        ("on Tue Jan 02 00:00 UTC", "on Mon Feb 04 07:08 VARY", Kind.TIME, {"clock", "timezone"}, set()),
        ("Jan  2 1980", "Jul 31 1980", Kind.TIME, {"source-date"}, set()),
        ("mtime 315619200", "mtime 324004242", Kind.TIME, {"timestamps"}, set()),
        ("mtime 1800000001", "mtime 1800000003", Kind.TIME, {FILE_TIMES}, set()),
        ("mtime 1800000001.25", "mtime 1800000003.5", Kind.TIME, {FILE_TIMES}, set()),
        ("threads=2", "threads=5", Kind.CPU, set(), {"cpus"}),
        ("localhost 2", "varied-host 5", Kind.HOST, {"host"}, {"cpus"}),
        ("0022", "0077", Kind.MODE, set(), {"umask"}),
        ("at 0x5555555592a0", "at 0x55f31c0d12a0", Kind.ADDRESS, set(), {"aslr"}),
        ("a b c", "c a b", Kind.ORDER, set(), None),
        ("one", "two", Kind.CONTENT, set(), set()),
    ],
)
def test_texts_point_to_what_wrote_them(before, after, kind, proved, likely):
    result = evidence(before, after)
    assert (result.kind, result.proved) == (kind, proved)
    if likely is not None:
        assert result.likely == likely
    else:
        assert "directory-order" in result.likely


def test_a_text_that_is_there_as_usual_proves_nothing():
    assert evidence("varied-host one", "varied-host two").proved == frozenset()


def test_every_influence_changes_the_world_and_no_two_change_the_same_of_it():
    fields: list[str] = []
    for item in ALL:
        assert item.vary(World()) != World()
        fields += [name for name in item.changes if name != "variables"]
    assert len(fields) == len(set(fields))
    assert len({item.name for item in ALL}) == len(ALL)


def test_a_world_that_is_not_varied_shows_what_belljar_always_shows(tmp_path):
    box = Sandbox(operations=(Bind(source="/usr", target="/build"),), env={"FLAGS": "-I/build/include"})
    shown = World().sandbox(box, tmp_path)
    assert (shown.uid, shown.hostname, shown.umask, shown.fixed_addresses) == (1000, "localhost", 0o022, True)
    assert shown.env["FLAGS"] == "-I/build/include"
    assert (shown.env["TZ"], shown.env["LC_ALL"], "MAKEFLAGS" in shown.env) == ("UTC", "C.UTF-8", False)


def test_the_project_moves_with_all_that_names_it_and_nothing_else_does(tmp_path):
    operations = (
        Bind(source="/a", target="/build"),
        Bind(source="/b", target="/build/out", writable=True),
        Tmpfs(target="/home/build"),
        Symlink(target="/x", link="/build/y"),
        Bind(source="/c", target="/builder"),
    )
    env = {"FLAGS": "-ffile-prefix-map=/build=. /builder /x/build", "CACHE": "/home/build/.c"}
    box = Sandbox(operations=operations, env=env, cwd="/build")
    shown = world_of(item for item in ALL if item.name in {"path", "home"}).sandbox(box, tmp_path)
    targets = {item.target for item in shown.operations}
    assert {
        "/varied/place/of/the/project",
        "/varied/place/of/the/project/out",
        "/home/varied",
        "/builder",
    } <= targets
    assert shown.cwd == "/varied/place/of/the/project"
    assert shown.env["FLAGS"] == "-ffile-prefix-map=/varied/place/of/the/project=. /builder /x/build"
    assert (shown.env["CACHE"], shown.env["HOME"]) == ("/home/varied/.c", "/home/varied")


def test_names_choose_influences_and_wrong_ones_are_told():
    def names(vary=(), dont=()):
        return {item.name for item in chosen(ALL, vary, dont)}

    assert names() == {item.name for item in ALL}
    assert names(["clock", "host"]) == {"clock", "host"}
    assert all(name.startswith("environment:") for name in names(["environment"]))
    assert not any(name.startswith("environment:") for name in names((), ["environment"]))
    with pytest.raises(UsageError, match="clokc"):
        names(["clokc"])
    with pytest.raises(UsageError, match="no influence is left"):
        names(["clock"], ["clock"])


def test_the_value_of_a_variable_is_a_mark_only_when_it_is_like_no_other():
    assert variable("A", "a-long-one").marks == ("a-long-one",)
    assert variable("A", "1").marks == ()
    assert variable("A", "12345678").marks == ()


def test_what_has_another_name_on_the_other_side_is_one_thing_that_is_called_as_usual(tmp_path):
    for side, host, date in (("left", "localhost", "20350102"), ("right", "varied-host", "20360204")):
        (tmp_path / side / f"lib/{host}").mkdir(parents=True)
        (tmp_path / side / f"lib/{host}/same").write_text("same")
        (tmp_path / side / f"lib/{host}/other").write_text(f"on {host}")
        (tmp_path / side / f"built-{date}.txt").write_text(f"of {date}")
    found = differences(tmp_path / "left", tmp_path / "right")
    assert [(item.path, item.part, item.after) for item in found] == [
        ("built-20350102.txt", "name", "built-20360204.txt"),
        ("built-20350102.txt", "line 1", "of 20360204"),
        ("lib/localhost", "name", "lib/varied-host"),
        ("lib/localhost/other", "line 1", "on varied-host"),
    ]


def test_directories_that_are_all_called_otherwise_to_any_depth_are_compared(tmp_path):
    for side in ("1", "2"):
        (tmp_path / side / "/".join([f"d{side}"] * 100)).mkdir(parents=True)
    found = differences(tmp_path / "1", tmp_path / "2")
    assert len([item for item in found if item.part == "name"]) == 60
    assert found[-1].aspect is Aspect.MISSING


def test_names_that_have_nothing_in_common_are_two_things(tmp_path):
    for side, name in (("left", "alpha"), ("right", "omega.so")):
        (tmp_path / side).mkdir()
        (tmp_path / side / name).write_text(name)
    found = differences(tmp_path / "left", tmp_path / "right")
    assert [(item.path, item.aspect) for item in found] == [
        ("alpha", Aspect.MISSING),
        ("omega.so", Aspect.MISSING),
    ]


def test_members_with_random_names_are_compared_with_each_other():
    left, right = (tar_of(names=(f"tmp.{word}", "x")) for word in ("a8Xk2", "Zb91q"))
    assert found(left, right) == [("(order of members)!line 1", "tmp.a8Xk2", "tmp.Zb91q")]


def test_the_name_of_what_only_a_varied_build_makes_is_evidence():
    made = Difference(path="on-varied-host", before="missing", after="there", aspect=Aspect.MISSING)
    gone = Difference(path="on-varied-host", before="there", after="missing", aspect=Aspect.MISSING)
    assert (judge(made, ALL).proved, judge(gone, ALL).proved) == ({"host"}, set())


def test_modes_times_and_hard_links_are_compared_when_asked_for(tmp_path):
    for number, side in enumerate(("left", "right")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a").write_text("same")
        (tmp_path / side / "a").chmod(0o644 - 0o044 * number)
        os.utime(tmp_path / side / "a", (0, number))
        link = os.link if number else shutil.copy2
        link(tmp_path / side / "a", tmp_path / side / "b")
    assert differences(tmp_path / "left", tmp_path / "right") == ()
    compared = Compared(ignored=("b",), metadata=frozenset(Metadata))
    found = differences(tmp_path / "left", tmp_path / "right", compared)
    assert [(item.part, item.before, item.after) for item in found] == [
        ("(mode)", "mode 644", "mode 600"),
        ("(mtime)", "mtime 0", "mtime 1"),
        ("(hard link)", "hard link none", "hard link of a"),
    ]
