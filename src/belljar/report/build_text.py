"""What a build gave, as text and as JSON."""

from typing import Any

from belljar.build import Artifact
from belljar.report import proof_text


def render(artifact: Artifact) -> list[str]:
    """Return the lines that `belljar build` ends with."""
    record = artifact.record
    declared = record.portability.get("glibc")
    floor = (artifact.audit.get("floors") or {}).get("glibc")
    moves = "all can be rewritten" if record.relocatable else f"cannot be moved: {record.reason}"
    done = "in the store already" if artifact.cached else "built"
    lines = [
        f"{record.name.package} {record.name.version}: {done}",
        f"  path        {artifact.path}",
        f"  content     sha256:{record.content}",
        f"  size        {record.size:,} bytes in {record.files} files",
        f"  references  {record.references}, {moves}",
    ]
    if floor is not None:
        lines.append(f"  glibc       {floor}" + (f" (declared {declared})" if declared else ""))
    if record.proof is not None:
        verdict, *rows = proof_text.render(record.proof)
        lines += [f"  proof       {verdict}", *rows]
    return lines


def to_json(artifact: Artifact) -> dict[str, Any]:
    """Return the artifact as JSON values: its record, path, audit, and whether it was in the store."""
    record = artifact.record.to_json()
    record.pop("version")
    return {
        "artifact": record,
        "path": str(artifact.path),
        "cached": artifact.cached,
        "audit": artifact.audit,
    }
