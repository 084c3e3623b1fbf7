"""Making an artifact: the steps of a build that the store could not answer.

All work happens in one staging directory on the store's filesystem, under the entry's lock, which
the caller holds; the store gets a finished tree or nothing. A crash leaves a staging directory that
the next build sweeps away.
"""

import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from belljar import fsys
from belljar.archive.unpack import unpack
from belljar.build import guarantees, output
from belljar.build.environment import Environment, materialise
from belljar.build.guarantees import Evidence, examine
from belljar.build.order import Order
from belljar.build.prove import Proof, prove
from belljar.build.refusal import GuaranteeError
from belljar.build.sandboxed import SHELL
from belljar.build.script import run_script
from belljar.errors import BuildError, InputError
from belljar.placeholder import PLACEHOLDER
from belljar.recipe import PathSource
from belljar.recipe.fetch import fetch
from belljar.recipe.sources import path as path_source
from belljar.references import Table
from belljar.relocate import open_tree, rewrite_tree
from belljar.store import Record, describe
from belljar.types import Digest, Event

# What is unpacked; any other file is put where the script finds it as it is.
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".tar.zst", ".zip", ".whl", ".deb")


def make(order: Order) -> None:
    """Fetch, stage, run the script, examine what it left, and put it into the store."""
    kept: list[Path] = []
    with fsys.staging(order.home.staging, keep=lambda: bool(kept)) as stage:
        progress = order.progress
        files = fetch(order.lock, order.home, offline=order.options.offline, progress=progress)
        links = order.recipe.environment.links
        environment = materialise(order.lock.environment, links, files, home=order.home, progress=progress)
        stage_sources(order, stage / "build", files)
        try:
            run_script(order, stage, environment)
            evidence = examine(stage / "out", order.recipe, order.name, progress)
            if order.options.prove and not evidence.unsupported:
                proof = _proof(order, stage, files, environment, evidence.table)
                evidence = guarantees.prove(evidence, proof, order.recipe, order.name)
        except (BuildError, GuaranteeError, InputError) as error:
            if order.options.keep_failed:
                kept.append(stage)
                error.hint = _how_to_enter(stage)
            raise
        _store(order, stage, evidence)


def _proof(
    order: Order, stage: Path, files: Mapping[Digest, Path], environment: Environment, table: Table
) -> Proof:
    """Build again below `stage`, under other store roots, and hold the output against that."""
    scratch = stage / "proof"
    scratch.mkdir()

    def build(store_root: str) -> Path:
        place = Path(tempfile.mkdtemp(dir=scratch, prefix="build-"))
        stage_sources(order, place / "build", files)
        try:
            run_script(order, place, environment, store_root=store_root, log=".proof")
        except BuildError as error:
            what = f"{error.message}, when it was run again to prove that its output can be moved"
            raise BuildError(what, log=error.log, tail=error.tail, hint=error.hint) from error
        output.normalise(place / "out")
        open_tree(place / "out", location=store_root.encode())
        return place / "out"

    return prove(stage / "out", table, scratch, build, order.progress)


def stage_sources(order: Order, place: Path, files: Mapping[Digest, Path]) -> None:
    """Put each source into a directory of its own, where the script finds it: /build/KEY."""
    place.mkdir()
    for key, source in order.recipe.sources.items():
        order.progress(Event(stage="unpack", subject=key))
        target = place / key
        target.mkdir()
        if isinstance(source, PathSource):
            _copy(order, key, source, target)
            continue
        for item in order.lock.sources[key]:
            if item.file.endswith(_ARCHIVES):
                unpack(files[item.sha256], target, strip_top=True, mtime=output.EPOCH)
            else:
                shutil.copyfile(files[item.sha256], target / item.file)
    output.normalise(place)


def _copy(order: Order, key: str, source: PathSource, target: Path) -> None:
    """Copy a `path` source; what is built must be what the entry is named after."""
    place = order.directory / source.path
    path_source.copy(place, target, mtime=output.EPOCH)
    copied = target if place.is_dir() else target / place.name
    if path_source.tree_digest(copied) != order.inputs[f"sources.{key}"]:
        raise InputError(f"{place}: changed while it was being built", hint="build again")


def _how_to_enter(stage: Path) -> str:
    words = [sys.executable, "-m", "belljar.sandbox", f"{stage}/sandbox.json", "--", SHELL]
    return f"kept in {stage}; enter it with: {shlex.join(words)}"


def _store(order: Order, stage: Path, evidence: Evidence) -> None:
    """Point the output's references at the store and move it in."""
    order.progress(Event(stage="store", subject=str(order.name)))
    tree, table = stage / "out", evidence.table
    placeholder = PLACEHOLDER.encode()
    manifest = describe(tree, table, placeholder)
    if not evidence.unsupported:
        rewrite_tree(tree, table, old=placeholder, new=order.store.location)
        output.settle(tree)
    declared = asdict(order.recipe.portability).items()
    record = Record(
        name=order.name,
        content=manifest.digest,
        size=manifest.size,
        files=sum(line.kind in "fx" for line in manifest.lines),
        references=len(table),
        closure=tuple(sorted(evidence.names)),
        inputs=order.inputs,
        portability={key: str(value) for key, value in declared if value is not None},
        relocatable=not evidence.unsupported,
        reason=evidence.unsupported[0] if evidence.unsupported else "",
        proof=evidence.proof.to_json() if evidence.proof is not None else None,
    )
    audit = evidence.report.to_json()
    order.store.add(tree, stage, record=record, table=table, manifest=manifest, audit=audit)
