"""What the store knows of an entry besides its tree.

record.json    what it is and was made from (small: read by every build)
table.json     its references (belljar.references)
manifest       its content, entry by entry (belljar.store.manifest)
audit.json     what the audit found when it was made
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belljar.errors import InputError
from belljar.store.name import StoreName
from belljar.types import Digest

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An entry: its name, content hash, size in bytes, what it refers to, what was promised of it.

    `inputs` says by key what it was made from, so that a later build can say what changed;
    `portability` is the recipe's table as declared; `relocatable` is whether every reference can be
    rewritten; `reason` says why not. `proof` is what building it again under another prefix showed
    (docs/proof.md); None: nobody asked.
    """

    name: StoreName
    content: Digest
    size: int
    files: int
    references: int
    closure: tuple[str, ...]
    inputs: Mapping[str, str]
    portability: Mapping[str, Any]
    relocatable: bool
    reason: str = ""
    proof: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {
            "version": VERSION,
            "name": str(self.name),
            "content": f"sha256:{self.content}",
            "size": self.size,
            "files": self.files,
            "references": self.references,
            "closure": list(self.closure),
            "inputs": dict(self.inputs),
            "portability": dict(self.portability),
            "relocatable": self.relocatable,
            "reason": self.reason,
            **({} if self.proof is None else {"proof": dict(self.proof)}),
        }

    @classmethod
    def from_json(cls, value: Any) -> "Record":
        """Read what `to_json` wrote; raises InputError where it is damaged or of another version."""
        try:
            if value["version"] != VERSION:
                raise InputError(f"store record: version {value['version']!r} is not known (want {VERSION})")
            return cls(
                name=StoreName.parse(value["name"]),
                content=Digest(value["content"].removeprefix("sha256:")),
                size=int(value["size"]),
                files=int(value["files"]),
                references=int(value["references"]),
                closure=tuple(map(str, value["closure"])),
                inputs={str(key): str(item) for key, item in value["inputs"].items()},
                portability=dict(value["portability"]),
                relocatable=bool(value["relocatable"]),
                reason=str(value["reason"]),
                proof=dict(proof) if (proof := value.get("proof")) is not None else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"store record: damaged ({type(error).__name__}: {error})") from error


def read_json(path: Path) -> Any:
    """Read one JSON file of a record; raises InputError where it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}", hint="remove the entry and build it again") from error
