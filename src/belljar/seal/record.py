"""What is kept in a sealed prefix of how it was sealed: `lib/belljar/seal.json`.

    {"version": 1, "form": "embedded" | "static" | "sh",
     "files": {"libc.so.6": {"source": "/lib/...", "sha256": "..."}},
     "trees": ["gconv", "locale/C.utf8"], "host": ["libcuda.so.1"],
     "libraries": {"lib/libx.so": [[offset, base64 of what stands there, of what stood there]]},
     "wrapped": {"bin/app": {"program": "libexec/app", "directories": ["lib/belljar"]}},
     "lib_is_new": false, "made": ["libexec"]}

`files`, `trees` and `host` are what was bundled, and left to the host: sealing again keeps it so.
`libraries` are edits that `unseal` makes (scripts are among them); embedded programs keep their own.
`wrapped` are programs that a launcher starts (all of them in the forms `static` and `sh`, some of
`embedded`), with the directories that they search; `made` are directories that go again when they are empty.

What is read is trusted no further than that: paths stay in the prefix.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from belljar.errors import InputError
from belljar.relocate.journal import is_inside

PRIVATE = "lib/belljar"
"""Where in a prefix the private loader, libc and libraries lie."""
NAME = "seal.json"
VERSION = 1
OWN = "belljar"
"""The source of files that belljar brings."""


def read(prefix: Path, private: str = PRIVATE) -> dict[str, Any] | None:
    """Return what was recorded when a prefix was sealed; None when it was not.

    Raises InputError when the record is damaged.
    """
    path = prefix / private / NAME
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        if record["version"] != VERSION:
            raise ValueError(f"version {record['version']!r}")
        _demand(record)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: damaged: {error}", hint="take the prefix from where it came") from error
    return record


def wrapped(record: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the programs that launchers start: where the launcher is, where the program."""
    return {path: told["program"] for path, told in (record or {}).get("wrapped", {}).items()}


def _demand(record: Mapping[str, Any]) -> None:
    """Raise an error unless members are what they should be."""
    paths = [
        *record["files"],
        *record.get("libraries", {}),
        *record.get("made", []),
        *record.get("trees", []),
    ]
    if not all(isinstance(item["source"], str) for item in record["files"].values()):
        raise ValueError("a file has no source")
    for path, told in record.get("wrapped", {}).items():
        paths += [path, told["program"], *told["directories"]]
    for path in paths:
        if not is_inside(path):
            raise ValueError(f"{path!r} is not a path of the prefix")
