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

import base64
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
FORMS = ("embedded", "static", "sh")
OWN = "belljar"
"""The source of files that belljar brings."""


def read(prefix: Path, private: str = PRIVATE) -> dict[str, Any] | None:
    """Return what was recorded when a prefix was sealed; None when it was not.

    Raises InputError when the record is damaged.
    """
    path = prefix / private / NAME
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        _demand(record)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged: {error}", hint="take the prefix from where it came") from error
    return record


def wrapped(record: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the programs that launchers start: where the launcher is, where the program."""
    return {path: told["program"] for path, told in (record or {}).get("wrapped", {}).items()}


def _demand(record: Any) -> None:
    """Raise ValueError unless everything is what it should be."""
    _is(isinstance(record, dict) and record.get("version") == VERSION, f"not of version {VERSION}")
    _is(record.get("form") in FORMS, f"its form is none of {', '.join(FORMS)}")
    groups = {name: record.get(name, {}) for name in ("files", "libraries", "wrapped")}
    lists = {name: record.get(name, []) for name in ("made", "trees", "host")}
    _is("files" in record, "it names no files")
    for name, group in groups.items():
        _is(isinstance(group, dict), f"{name} are no table")
    for name, items in lists.items():
        _is(isinstance(items, list) and all(isinstance(item, str) for item in items), f"{name} are no names")
    paths = [*groups["libraries"], *lists["made"], *lists["trees"]]
    for name, told in groups["files"].items():
        _is("/" not in name and _is_text(told, "source", "sha256"), f"file {name!r} is not told of")
    for path, edits in groups["libraries"].items():
        _is(isinstance(edits, list) and all(map(_is_edit, edits)), f"the edits of {path!r} are none")
    for path, told in groups["wrapped"].items():
        places = told.get("directories") if _is_text(told, "program") else None
        _is(isinstance(places, list), f"{path!r} starts nothing")
        paths += [path, told["program"], *(places or ())]
    for path in (*paths, *groups["files"], *lists["host"]):
        _is(isinstance(path, str) and is_inside(path), f"{path!r} is not a path of the prefix")


def _is(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _is_text(told: Any, *names: str) -> bool:
    return isinstance(told, dict) and all(isinstance(told.get(name), str) for name in names)


def _is_edit(edit: Any) -> bool:
    """Whether something is an offset and two texts in base64."""
    if not isinstance(edit, list) or len(edit) != 3 or type(edit[0]) is not int or edit[0] < 0:
        return False
    try:
        return all(base64.b64decode(text, validate=True) is not None for text in edit[1:])
    except (TypeError, ValueError):
        return False
