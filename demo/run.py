"""The demo: GNU hello from its source to real old systems, each step as a user would type it.

It keeps what it downloads in the user's cache directory and builds anew each time. Nothing is
installed outside that directory and a temporary one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BELLJAR = Path(sys.executable).parent / "belljar"
LIMIT = 80
Done = subprocess.CompletedProcess[str]


@dataclass
class Claim:
    """One row of the closing table."""

    claim: str
    check: str
    result: str
    holds: bool


@dataclass
class Demo:
    """The state of the demo: where things lie and which claims were checked."""

    home: Path
    work: Path
    claims: list[Claim] = field(default_factory=list)

    def belljar(self, *words: str, home: Path | None = None, quiet: bool = False) -> Done:
        """Run a command of belljar and show it; progress goes to the terminal."""
        env = os.environ | {"BELLJAR_HOME": str(home or self.home)}
        if not quiet:
            say(f"\n$ belljar {' '.join(self.short(word) for word in words)}")
        done = subprocess.run(
            [BELLJAR, *words], env=env, stdout=subprocess.PIPE, text=True, check=False, cwd=self.work
        )
        if not quiet:
            say(done.stdout.rstrip())
        return done

    def json(self, *words: str, home: Path | None = None) -> dict:
        """Run a command of belljar and return its JSON."""
        done = self.belljar(*words, "--format", "json", home=home, quiet=True)
        return json.loads(done.stdout) if done.stdout else {}

    def run(self, *words: str, **env: str) -> Done:
        """Run any program and show it."""
        shown = [f"{name}={value}" for name, value in env.items()] + [self.short(word) for word in words]
        say(f"\n$ {' '.join(shown)}")
        done = subprocess.run(words, env=os.environ | env, capture_output=True, text=True, check=False)
        say((done.stdout + done.stderr).rstrip())
        return done

    def short(self, word: str) -> str:
        """Show paths of the demo as a user would write them."""
        return word.replace(str(self.work) + "/", "").replace(str(TOP) + "/", "")

    def claim(self, claim: str, check: str, result: object, holds: bool) -> None:
        """Note a claim for the table."""
        self.claims.append(Claim(claim, check, str(result), holds))


def say(text: str) -> None:
    """Print at once, so that it keeps its place among the progress."""
    if text:
        print(text, flush=True)


def step(number: int, title: str) -> None:
    """Announce a step."""
    say(f"\n\033[1m[{number}/9] {title}\033[0m" if sys.stdout.isatty() else f"\n[{number}/9] {title}")


def lock_and_fetch(demo: Demo) -> None:
    """Step 1."""
    unlocked = shutil.ignore_patterns("belljar.lock", "result")
    shutil.copytree(TOP / "examples" / "hello", demo.work / "hello", ignore=unlocked)
    need(demo.belljar("lock", "hello"))
    need(demo.belljar("fetch", "hello"))
    lock = json.loads((demo.work / "hello/belljar.lock").read_text())
    pinned = len(lock["environment"]) + sum(len(files) for files in lock["sources"].values())
    offline = demo.belljar("fetch", "--offline", "hello", quiet=True)
    holds = offline.returncode == 0
    demo.claim("every source and tool is pinned", f"sha256 of {pinned} files, offline", "all match", holds)


def build(demo: Demo) -> dict:
    """Step 2."""
    need(demo.belljar("build", "hello", "--offline", "--prove-relocation"))
    first = demo.json("build", "hello", "--offline")
    verdict = (first["artifact"]["proof"] or {}).get("verdict", "no proof")
    check = "built under another prefix, too, and compared"
    demo.claim("to move it is to build it there", check, verdict, verdict in ("exact", "derived"))
    demo.claim("the same inputs are built once", "belljar build again", "in the store", first["cached"])
    say("\nthe same again, in another home with a longer path:")
    other = demo.work / "another-home-with-a-longer-path"
    other.mkdir()
    (other / "cache").symlink_to(demo.home / "cache")
    second = demo.json("build", "hello", "--offline", "--no-link", home=other)
    same = first["artifact"]["content"] == second["artifact"]["content"] and not second["cached"]
    say(f"  {first['artifact']['content']}  {first['path'][:40]}...")
    say(f"  {second['artifact']['content']}  {second['path'][:40]}...")
    result = "equal" if same else "differ"
    demo.claim("where it is built leaves no trace", "content hash of builds in two homes", result, same)
    return first


def ties(demo: Demo) -> None:
    """Step 3."""
    demo.belljar("scan", "result", "--summary")
    audited = demo.belljar("audit", "result")
    report = demo.json("audit", "result")
    own = os.confstr("CS_GNU_LIBC_VERSION") or "not glibc"
    floor = report["floors"]["glibc"]
    holds = audited.returncode == 0
    demo.claim(
        "needs no glibc newer than 2.17", f"belljar audit (this machine: {own})", f"needs {floor}", holds
    )


def store(demo: Demo) -> None:
    """Step 4."""
    demo.belljar("store", "list")
    verified = demo.belljar("store", "verify", "hello")
    demo.claim("the store holds what was built", "belljar store verify", "sound", verified.returncode == 0)


def move(demo: Demo) -> tuple[Path, Path]:
    """Step 5."""
    here = demo.work / "apps"
    deep = Path(str(demo.work / "a") + "/deeper" * 20)
    while len(str(deep)) > LIMIT:
        deep = deep.parent
    greetings = []
    for place in (here, deep):
        need(demo.belljar("install", "result", "--to", str(place)))
        done = demo.run(str(place / "bin/hello"), LC_ALL="C.UTF-8", LANGUAGE="de")
        greetings.append(done.stdout.strip())
    right = greetings == ["Hallo, Welt!"] * 2
    check = f"German catalogue found from 2 places, one {len(str(deep))} bytes long"
    demo.claim("runs from any directory", check, greetings[0], right)
    too_long = demo.work / ("x" * 90)
    refused = demo.belljar("install", "result", "--to", str(too_long))
    holds = refused.returncode == 3 and not too_long.exists()
    demo.claim("refuses before it writes", "install to a path that is too long", "refused", holds)
    return here, deep


def real_systems(demo: Demo, installed: Path) -> None:
    """Step 6."""
    on = ["--on", "glibc-2.17", "debian:bullseye"]
    good = demo.belljar("verify", str(installed), *on, "--", "bin/hello")
    holds = good.returncode == 0
    demo.claim("runs on a real glibc 2.17 and on Debian 11", "belljar verify", "passed on both", holds)
    say("\nnegative control: the same source, built by Debian's plain gcc:")
    shutil.copytree(TOP / "examples" / "hello-cc", demo.work / "hello-cc")
    need(demo.belljar("build", "hello-cc", "--out-link", "result-cc"))
    bad = demo.belljar("verify", "result-cc", *on, "--", "bin/hello")
    holds = bad.returncode == 1 and "GLIBC_2.3" in bad.stdout and "not found" in bad.stdout
    demo.claim(
        "plain gcc's build does not run there", "the same; the loader's own words", "version not found", holds
    )


def others(demo: Demo) -> None:
    """Step 7."""
    made, moved = demo.work / "env", demo.work / "moved-env"
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    made.rename(moved)
    try:
        subprocess.run([moved / "bin/pip", "--version"], check=True, capture_output=True)
        is_broken = False
    except (OSError, subprocess.CalledProcessError):
        is_broken = True
    need(demo.belljar("relocate", str(moved)))
    done = demo.run(str(moved / "bin/pip"), "--version")
    holds = is_broken and done.returncode == 0 and str(moved) in done.stdout
    demo.claim("trees of others move too", "a Python environment, its pip", "runs", holds)


def carried(demo: Demo) -> None:
    """Step 8."""
    prefix = demo.work / "sealed"
    shutil.copytree(demo.work / "result-cc", prefix, symlinks=True)
    subprocess.run(["chmod", "-R", "u+w", prefix], check=True)
    need(demo.belljar("seal", str(prefix)))
    done = demo.belljar("verify", str(prefix), "--on", "glibc-2.17", "debian:bullseye", "--", "bin/hello")
    result = "passed on both"
    demo.claim(
        "sealed, plain gcc's build runs there", "belljar seal, belljar verify", result, done.returncode == 0
    )


def table(demo: Demo) -> int:
    """Step 9."""
    rows = [("claim", "how it was checked", "result", "")]
    rows += [(item.claim, item.check, item.result, "ok" if item.holds else "FAILED") for item in demo.claims]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for number, row in enumerate(rows):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            say("  ".join("-" * width for width in widths))
    return 0 if all(item.holds for item in demo.claims) else 1


def need(done: Done) -> None:
    """Stop the demo where going on makes no sense."""
    if done.returncode != 0:
        sys.exit(f"demo: stopped: belljar exited with {done.returncode}")


def main() -> int:
    """Run all steps and return the exit status: 0 when every claim holds."""
    started = time.monotonic()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "belljar-demo"
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(["chmod", "-R", "u+w", home / "store"], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(home / "store", ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="belljar-demo-") as work:
        demo = Demo(home=home, work=Path(work))
        step(1, "lock and fetch: sources and tools")
        lock_and_fetch(demo)
        step(2, "build: ./configure && make && make install, in the sandbox")
        build(demo)
        step(3, "what ties the output to a machine")
        ties(demo)
        step(4, "the artifact in the store")
        store(demo)
        step(5, "installed into two directories")
        here, _ = move(demo)
        step(6, "run on real systems")
        real_systems(demo, here)
        step(7, "a tree that belljar did not build")
        others(demo)
        step(8, "a program that brings its own libc")
        carried(demo)
        step(9, f"the claims, after {time.monotonic() - started:.0f} s")
        status = table(demo)
        subprocess.run(["chmod", "-R", "u+w", work], check=False)
    return status


if __name__ == "__main__":
    sys.exit(main())
