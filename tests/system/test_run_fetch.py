"""The fetch step by real tools: what the lock file names comes in, and the build needs no network.

Cargo fetches over HTTP from a server of this test, Go from a directory that is laid out as a proxy. npm and
pip fetch from their registries in test_run_projects.py.
"""

import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
import zipfile

import pytest
from test_run_support import Place, hermetic

pytestmark = pytest.mark.extended  # cargo and go with all that they need


@pytest.fixture
def place(tmp_path):
    made = Place(top=tmp_path / "top")
    made.home.mkdir(parents=True)
    made.project.mkdir(parents=True)
    return made


def crate() -> bytes:
    """Make the archive of a crate, as `cargo package` would."""
    files = {"Cargo.toml": '[package]\nname = "seven"\nversion = "1.0.0"\nedition = "2021"\n'}
    files["src/lib.rs"] = "pub fn seven() -> u32 { 7 }\n"
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"seven-1.0.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return made.getvalue()


@contextlib.contextmanager
def registry(top):
    """Serve a sparse registry with one crate; give its address, the crate's hash and the paths asked for."""
    data, asked = crate(), []
    digest = hashlib.sha256(data).hexdigest()
    entry = {"name": "seven", "vers": "1.0.0", "deps": [], "cksum": digest, "features": {}, "yanked": False}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            port = self.server.server_address[1]
            pages = {
                "/config.json": json.dumps({"dl": f"http://127.0.0.1:{port}/crates"}).encode(),
                "/se/ve/seven": json.dumps(entry).encode() + b"\n",
                "/crates/seven/1.0.0/download": data,
            }
            self.send_response(200 if self.path in pages else 404)
            self.end_headers()
            self.wfile.write(pages.get(self.path, b""))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"sparse+http://127.0.0.1:{server.server_address[1]}/", digest, asked
        finally:
            server.shutdown()


def cargo_project(place, address, digest):
    place.tools = "run-rust"
    place.env["CARGO_REGISTRIES_MINE_INDEX"] = address
    place.write(
        "Cargo.toml",
        '[package]\nname = "a"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n'
        'seven = { version = "1.0.0", registry = "mine" }\n',
    )
    place.write(
        "Cargo.lock",
        'version = 3\n\n[[package]]\nname = "a"\nversion = "0.1.0"\ndependencies = [\n'
        f' "seven",\n]\n\n[[package]]\nname = "seven"\nversion = "1.0.0"\nsource = "{address}"\n'
        f'checksum = "{digest}"\n',
    )
    place.write("src/main.rs", 'fn main() { println!("{}", seven::seven()); }\n')


BUILD = ("--allow-env", "CARGO_REGISTRIES_MINE_INDEX", "--", "cargo", "build")


def test_cargo_fetches_what_is_locked_and_builds_without_network(place):
    with registry(place.top) as (address, digest, asked):
        cargo_project(place, address, digest)
        assert hermetic(place, *BUILD, profile="cargo").returncode != 0, "nothing is there before"
        assert asked == []
        done = hermetic(place, "--fetch", *BUILD, profile="cargo")
        assert done.returncode == 0, done.stderr
        assert "/crates/seven/1.0.0/download" in asked
    assert list((place.home / ".cargo/registry/cache").rglob("*.crate"))
    assert not (place.home / ".cargo/registry/src").exists(), "sources are unpacked inside"
    place.write("src/main.rs", 'fn main() { println!("{}", 1 + seven::seven()); }\n')
    assert hermetic(place, *BUILD, profile="cargo").returncode == 0, "from the cache, and no server is there"


def test_cargo_refuses_what_is_not_what_was_locked(place):
    with registry(place.top) as (address, _, _):
        cargo_project(place, address, "0" * 64)
        done = hermetic(place, "--fetch", *BUILD, profile="cargo")
        assert done.returncode not in (0, 2, 3, 4)
        assert "checksum" in done.stderr
        assert "in the fetch step" in done.stderr


def h1(files) -> str:
    """Return Go's hash of a tree: golang.org/x/mod/sumdb/dirhash."""
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def go_project(place, *, honest=True):
    place.tools = "run-go"
    mod = b"module planted.example/seven\n\ngo 1.19\n"
    prefix = "planted.example/seven@v1.0.0"
    tree = {
        f"{prefix}/go.mod": mod,
        f"{prefix}/seven.go": b"package seven\n\nfunc Seven() int { return 7 }\n",
    }
    at = place.top / "proxy/planted.example/seven/@v"
    at.mkdir(parents=True)
    (at / "list").write_text("v1.0.0\n")
    (at / "v1.0.0.info").write_text('{"Version":"v1.0.0"}')
    (at / "v1.0.0.mod").write_bytes(mod)
    with zipfile.ZipFile(at / "v1.0.0.zip", "w") as archive:
        for name, data in tree.items():
            archive.writestr(name, data if honest or name.endswith(".mod") else data + b"// planted\n")
    place.write("go.mod", "module a\n\ngo 1.19\n\nrequire planted.example/seven v1.0.0\n")
    place.write(
        "go.sum",
        f"planted.example/seven v1.0.0 {h1(tree)}\n"
        f"planted.example/seven v1.0.0/go.mod {h1({'go.mod': mod})}\n",
    )
    place.write(
        "main.go",
        'package main\n\nimport "planted.example/seven"\n\nfunc main() { println(seven.Seven()) }\n',
    )
    place.env |= {"GOPROXY": f"file://{place.top}/proxy", "GONOSUMDB": "*"}


GO = ("--", "env", "CGO_ENABLED=0", "GOCACHE=/tmp/go", "go", "build", "-o", "a")


def test_go_fetches_what_is_locked_from_a_declared_directory_and_builds_without_it(place):
    go_project(place)
    assert hermetic(place, *GO, profile="go").returncode != 0
    done = hermetic(place, "--fetch", "--ro", str(place.top / "proxy"), *GO, profile="go")
    assert done.returncode == 0, done.stderr
    assert "the network for the fetch step" in done.stderr
    os.rename(place.top / "proxy", place.top / "gone")
    (place.project / "a").unlink()
    assert hermetic(place, *GO, profile="go").returncode == 0, "from the download cache"


def test_go_refuses_what_is_not_what_was_locked(place):
    go_project(place, honest=False)
    done = hermetic(place, "--fetch", "--ro", str(place.top / "proxy"), *GO, profile="go")
    assert done.returncode not in (0, 2, 3, 4)
    assert "checksum mismatch" in done.stderr


def test_go_builds_from_what_the_project_vendors(place):
    go_project(place)
    place.write("vendor/planted.example/seven/seven.go", "package seven\n\nfunc Seven() int { return 7 }\n")
    explicit = "# planted.example/seven v1.0.0\n## explicit; go 1.19\nplanted.example/seven\n"
    place.write("vendor/modules.txt", explicit)
    done = hermetic(place, *GO, profile="go")
    assert done.returncode == 0, done.stderr
    place.write("vendor/modules.txt", explicit.replace("v1.0.0", "v1.0.1"))
    assert "inconsistent vendoring" in hermetic(place, *GO, profile="go").stderr
