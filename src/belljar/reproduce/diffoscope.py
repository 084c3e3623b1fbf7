"""What diffoscope has to say of two trees, where it is installed: it knows hundreds of formats.

It is asked and not relied upon: what it does not manage (names that are no UTF-8, say) is a note.
"""

from collections.abc import Sequence
from pathlib import Path

from belljar import proc
from belljar.errors import HostError

PROGRAM = "diffoscope"
_SECONDS, _LINES, _BYTES = 300.0, 400, 1 << 20
_ENDED_WELL = (0, 1)


def account(
    stage: Path, trees: Sequence[str], ignored: Sequence[str], *, timeout: float = _SECONDS
) -> tuple[str, str]:
    """Return the first lines of what it says of two trees below `stage`, and a note where that is not all."""
    left_out = [f"--exclude=*/{pattern}{below}" for pattern in ignored for below in ("", "/*")]
    options = ("--exclude-directory-metadata=yes", f"--max-text-report-size={_BYTES}", *left_out)
    words = (PROGRAM, *options, "--text", "-", *trees)
    try:
        done = proc.run(words, cwd=stage, timeout=timeout)
    except HostError as error:
        return "", str(error)
    lines = done.stdout.splitlines()
    more = f"{PROGRAM}: {len(lines) - _LINES} lines more" if len(lines) > _LINES else ""
    if done.status not in _ENDED_WELL:
        why = done.last_words.splitlines()[-1:] or ["no word of why"]
        more = f"{PROGRAM} failed, status {done.status}: {why[0]}"
    return "\n".join(lines[:_LINES]), more
