"""url sources, against a real server on the loopback."""

import dataclasses
import hashlib
import http.server
import threading

import pytest

from belljar.errors import IntegrityError, RemoteError
from belljar.home import Home
from belljar.recipe import lock
from belljar.recipe.fetch import fetch
from belljar.recipe.recipe import FILE, load
from belljar.recipe.resolve import lock as resolve
from belljar.recipe.sources import url

CONTENT = bytes(range(256)) * 10_000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, in several unhelpful ways."""

    protocol_version = "HTTP/1.0"
    served = 0

    def do_GET(self):
        type(self).served += 1
        kind = self.path.split("/")[1]
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/good/file.tar.gz")
        elif kind == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
        elif kind == "local":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
        elif kind == "missing":
            self.send_response(404, "Not Found")
        else:
            self.send_response(200)
            length = {"short": len(CONTENT) + 1, "huge": 1 << 50, "bad": "many"}.get(kind, len(CONTENT))
            if kind != "nolength":
                self.send_header("Content-Length", str(length))
        self.end_headers()
        if kind in {"good", "short", "nolength"}:
            self.wfile.write(CONTENT)
        elif kind == "other":
            self.wfile.write(CONTENT[::-1])
        elif kind == "silent":
            self.wfile.write(CONTENT[:1000])
            self.wfile.flush()
            threading.Event().wait(1.0)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path):
    return Home(data=tmp_path / "data", cache=tmp_path / "cache")


@pytest.fixture
def make(tmp_path, home, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(url, "TIMEOUT", 0.3)

    def attempt(address, sha256=SHA):
        (tmp_path / FILE).write_text(
            '[package]\nname = "x"\nversion = "1"\n[build]\nscript = "x"\n'
            '[environment]\npackages = ["pypi:x==1"]\n'
            f'[sources]\nfile = {{ url = "{address}", sha256 = "{sha256}" }}\n'
        )
        recipe = load(tmp_path)
        bare = dataclasses.replace(recipe.environment, packages=())
        return resolve(dataclasses.replace(recipe, environment=bare), home)

    return attempt


def kept(home):
    return sorted(path.name for path in home.cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["good", "moved", "nolength"])
def test_a_file_is_locked_with_its_size_and_fetched_once(make, home, address, kind):
    locked = make(f"{address}/{kind}/file.tar.gz")
    (file,) = locked.sources["file"]
    assert (file.kind, file.file, file.sha256, file.size) == ("url", "file.tar.gz", SHA, len(CONTENT))
    assert kept(home) == [f"{SHA}-file.tar.gz"]
    served = Server.served
    assert make(f"{address}/{kind}/file.tar.gz") == locked
    assert fetch(locked, home)[SHA].read_bytes() == CONTENT
    assert Server.served == served


def test_a_lock_alone_is_enough_to_fetch(make, home, address, tmp_path):
    lock.write(tmp_path / "l", make(f"{address}/good/file.tar.gz"))
    next(home.downloads.iterdir()).unlink()
    assert fetch(lock.read(tmp_path / "l"), home)[SHA].read_bytes() == CONTENT


def test_other_content_is_exit_6_and_not_kept(make, home, address):
    with pytest.raises(IntegrityError, match=f"the recipe wants {SHA}"):
        make(f"{address}/other/x")
    assert kept(home) == []


def test_content_that_changed_after_locking_is_exit_6_and_not_kept(make, home, address):
    locked = make(f"{address}/good/x")
    next(home.downloads.iterdir()).unlink()
    (file,) = locked.sources["file"]
    changed = lock.LockedFile(
        kind="url", name="file", file="x", sha256="0" * 64, size=file.size, url=f"{address}/good/x"
    )
    with pytest.raises(IntegrityError):
        fetch(lock.Lock(arch=locked.arch, requests={}, sources={"file": (changed,)}), home)
    assert kept(home) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing/x", "404 Not Found"),
        ("/short/x", "cut off|more expected|IncompleteRead"),
        ("/huge/x", "expected at most"),
        ("/bad/x", "many"),
        ("/loop/x", "302"),
        ("/local/x", "302"),
        ("/silent/x", "no data for 0.3 seconds"),
    ],
)
def test_every_way_to_fail_is_a_clear_remote_error(make, home, address, path, message):
    with pytest.raises(RemoteError, match=message) as caught:
        make(address + path)
    assert str(caught.value).startswith(address + path)
    assert kept(home) == []


def test_a_server_that_is_not_there_is_a_remote_error(make):
    with pytest.raises(RemoteError, match="Connection refused"):
        make("http://127.0.0.1:9/x")


def test_a_file_url_is_read_like_any_other(make, home, tmp_path):
    (tmp_path / "f").write_bytes(CONTENT)
    assert fetch(make(f"file://{tmp_path}/f"), home)[SHA].read_bytes() == CONTENT
    with pytest.raises(RemoteError, match="No such file"):
        make(f"file://{tmp_path}/none", sha256="1" * 64)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://h/a/b.tar.gz?x=/y", "b.tar.gz"),
        ("https://h/a/b%20c/", "b_c"),
        ("https://h", "download"),
        ("https://h/%2e%2e", "download"),
        ("https://h/%00-x", "_-x"),
        ("https://h/" + "a" * 300, "a" * 100),
    ],
)
def test_a_file_name_is_plain_whatever_the_address(address, name):
    assert url.file_name(address) == name
