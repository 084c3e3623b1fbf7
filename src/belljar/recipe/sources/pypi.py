"""pypi:NAME==VERSION: a wheel, downloaded by the machine's pip with the machine's configuration.

Only wheels that need no particular Python are taken (`py3-none-...`: programs such as ziglang or
ninja, and pure Python), so that the lock does not depend on the Python that belljar runs on. Of the
platforms, every manylinux of the architecture will do: nothing of the machine is asked.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from belljar import fsys, proc
from belljar.errors import HostError, IntegrityError, RemoteError
from belljar.recipe import downloads
from belljar.recipe.lock import LockedFile
from belljar.recipe.sources.base import Context, UnresolvedError, Wanted
from belljar.recipe.specs import PypiPackage
from belljar.types import Arch, Event

_PYTHON = "3.13"
"""The version that a wheel must not exclude; fixed, so that all machines choose alike."""
_NEWEST_MINOR = 41
"""The newest manylinux_2_N that is asked for; pip takes the newest tag that a package offers."""


def resolve(wanted: Sequence[Wanted], context: Context) -> tuple[LockedFile, ...]:
    """Return the wheel of each request, downloading it to hash it; see `base.Kind`."""
    return tuple(_pinned(item, context) for item in wanted)


def _pinned(item: Wanted, context: Context) -> LockedFile:
    spec = item.spec
    assert isinstance(spec, PypiPackage)
    with downloads.incoming(context.home) as into:
        context.progress(Event(stage="resolve", subject=spec.request))
        ended = _download(f"{spec.name}=={spec.version}", into, context)
        wheels = list(into.glob("*.whl"))
        if ended.status != 0 or len(wheels) != 1:
            _raise_if_remote(ended, spec.request)
            said = ended.last_words.replace("ERROR: ", "")
            raise UnresolvedError((item.key, f"no wheel that needs no particular Python: {said}"))
        file = LockedFile(
            kind="pypi",
            name=spec.name,
            version=spec.version,
            file=wheels[0].name,
            sha256=fsys.sha256(wheels[0]),
            size=wheels[0].stat().st_size,
        )
        downloads.admit(wheels[0], file, context.home)
        return file


def fetch(files: Sequence[LockedFile], into: Path, context: Context) -> Iterator[tuple[LockedFile, Path]]:
    """Download wheels, only the very files that were locked; see `base.Kind`."""
    for file in files:
        context.progress(Event(stage="fetch", subject=file.name))
        requirements = into / "requirements.txt"
        requirements.write_text(f"{file.name}=={file.version} --hash=sha256:{file.sha256}\n")
        ended = _download(f"--requirement={requirements}", into, context)
        if "DO NOT MATCH THE HASHES" in ended.stderr:
            raise IntegrityError(
                f"{file.file}: pip offers other content than was locked (want sha256 {file.sha256})",
                hint="run `belljar lock` if the new content is wanted",
            )
        if ended.status != 0:
            _raise_if_remote(ended, file.name)
            raise RemoteError(f"pip: {file.name} {file.version}: cannot be had:\n{ended.last_words}")
        yield file, into / file.file


def _download(what: str, into: Path, context: Context) -> proc.Completed:
    words = [
        *(_pip()),
        *("--no-input", "--disable-pip-version-check", "--quiet", "--retries=2", "--timeout=60"),
        f"--cache-dir={context.home.cache / 'pip'}",
        *("download", "--no-deps", "--only-binary=:all:", f"--dest={into}"),
        *("--implementation=py", "--abi=none", f"--python-version={_PYTHON}"),
        *(f"--platform={name}" for name in platforms(context.arch)),
        what,
    ]
    return proc.run(words, env={**os.environ, "LC_ALL": "C.UTF-8"}, cwd=into)


def platforms(arch: Arch) -> tuple[str, ...]:
    """Return the platform tags that will do for an architecture, the newest first (PEP 600)."""
    names = [f"manylinux_2_{minor}_{arch}" for minor in range(_NEWEST_MINOR, 4, -1)]
    legacy = ["manylinux2014", "manylinux2010", "manylinux1"] if arch is Arch.X86_64 else ["manylinux2014"]
    return (*names, *(f"{name}_{arch}" for name in legacy), f"linux_{arch}", "any")


def _pip() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = proc.find("pip3") or proc.find("pip")
    if found is None:
        raise HostError("pip: not found on this machine", hint="pypi: needs pip, as a module or on PATH")
    return [str(found)]


def _raise_if_remote(ended: proc.Completed, what: str) -> None:
    """Raise RemoteError when pip had trouble with the network: at its end it only says `no match`."""
    signs = ("Retrying (", "Connection", "NewConnectionError", "HTTP error", "Could not fetch URL")
    said = [line for line in ended.stderr.splitlines() if any(sign in line for sign in signs)]
    if ended.status != 0 and said:
        raise RemoteError(
            f"pip: {what}: cannot be had:\n{said[-1]}",
            hint="is there a network, and does `pip download` work on this machine?",
        )
