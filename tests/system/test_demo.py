"""The demo is a promise of the README: it runs, every claim of its table holds, nothing is left behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_every_claim_of_the_demo_holds():
    # Kept between runs, like the demo's own cache: the demo builds anew all the same.
    cache = Path(tempfile.gettempdir()) / f"belljar-tests-demo-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    before = set(Path(tempfile.gettempdir()).glob("belljar-demo-*"))
    done = subprocess.run(
        [sys.executable, TOP / "demo" / "run.py"],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    table = done.stdout.split("how it was checked")[1].splitlines()[2:]
    rows = [line for line in table if line.strip()]
    assert len(rows) == 12
    assert [row for row in rows if not row.endswith("ok")] == []
    assert "Traceback" not in done.stderr
    assert set(Path(tempfile.gettempdir()).glob("belljar-demo-*")) - before == set()
