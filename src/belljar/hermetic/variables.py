"""The environment of a command: fixed values, those of the profile, and what the caller lets in by name."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

from belljar.errors import UsageError
from belljar.hermetic.request import HOME
from belljar.sandbox import value

EPOCH = 315_619_200
"""1980-01-02 in UTC: the first day that every archive format can hold."""
FIXED: Mapping[str, str] = {
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LOGNAME": "build",
    "PERL_HASH_SEED": "0",
    "PYTHONHASHSEED": "0",
    "SHELL": "/bin/sh",
    "SOURCE_DATE_EPOCH": str(EPOCH),
    "TAR_OPTIONS": "--mtime=1980-01-02",
    "TERM": "dumb",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
    "USER": "build",
}
NETWORK = (
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""What a fetch step gets of the caller's environment, whatever the tool."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"token|secret|passw|credential|auth|api_?key|private", re.IGNORECASE)


@value
class Allowed:
    """A variable that was let in by name; `value` is None where the caller has none."""

    name: str
    value: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it for a report; of what looks like a secret, the hash only."""
        if self.value is None:
            return {"name": self.name, "set": False}
        if _SECRET.search(self.name):
            import hashlib

            digest = hashlib.sha256(self.value.encode("utf-8", "surrogateescape")).hexdigest()
            return {"name": self.name, "set": True, "sha256": digest}
        return {"name": self.name, "set": True, "value": self.value}


def allowed(names: Sequence[str], env: Mapping[str, str]) -> tuple[Allowed, ...]:
    """Return the variables of `env` that are let in. Raises UsageError for a name that can be none."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"--allow-env {name}: not the name of a variable",
                hint="to set one, put it before the command: -- env NAME=VALUE CMD",
            )
    return tuple(Allowed(name=name, value=env.get(name)) for name in dict.fromkeys(names))


def matching(patterns: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names in `env` that are like one of the patterns, sorted."""
    return tuple(
        sorted(name for name in env if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    )
