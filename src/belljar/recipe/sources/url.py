"""url: a file at an address that the recipe names, with the hash that it must have.

Fetched with the standard library, which honours http_proxy, https_proxy and no_proxy. The hash
decides, not the transport: a redirect, a mirror, a truncated answer all end in the same check.
"""

import http.client
import re
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from belljar import fsys
from belljar.errors import IntegrityError, RemoteError
from belljar.recipe import downloads
from belljar.recipe.lock import LockedFile
from belljar.recipe.sources.base import Context, Wanted
from belljar.recipe.specs import UrlSource
from belljar.types import Digest, Event, Progress

TIMEOUT = 60.0
"""How many seconds without data are too many."""
LIMIT = 16 << 30
"""The largest file in bytes, unless its size is locked."""


def resolve(wanted: Sequence[Wanted], context: Context) -> tuple[LockedFile, ...]:
    """Return the file of each address, downloading what is not there; see `base.Kind`.

    Raises IntegrityError when the content has not the hash that the recipe gives.
    """
    return tuple(_pinned(item, context) for item in wanted)


def _pinned(item: Wanted, context: Context) -> LockedFile:
    spec = item.spec
    assert isinstance(spec, UrlSource)
    name = str(item.key[-1])
    known = _locked(spec, name, 0)
    there = downloads.path_of(known, context.home)
    if there.is_file():
        file = _locked(spec, name, there.stat().st_size)
        if downloads.find(file, context.home) is not None:
            return file
    with downloads.incoming(context.home) as into:
        path = into / "file"
        _download(spec.url, path, LIMIT, context.progress, known.file)
        found = fsys.sha256(path)
        if found != spec.sha256:
            raise IntegrityError(
                f"{spec.url}: sha256 is {found}, the recipe wants {spec.sha256}",
                hint="the file was not kept; correct the recipe if this is the file you mean",
            )
        file = _locked(spec, name, path.stat().st_size)
        downloads.admit(path, file, context.home)
        return file


def _locked(spec: UrlSource, name: str, size: int) -> LockedFile:
    return LockedFile(
        kind="url", name=name, file=file_name(spec.url), sha256=Digest(spec.sha256), size=size, url=spec.url
    )


def file_name(url: str) -> str:
    """Return a plain file name for what lies at `url`: its last component, odd characters replaced."""
    last = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._+~-]", "_", last).lstrip(".-+~")[-100:].lstrip(".-+~") or "download"


def fetch(files: Sequence[LockedFile], into: Path, context: Context) -> Iterator[tuple[LockedFile, Path]]:
    """Download files; see `base.Kind`."""
    for file in files:
        path = into / file.sha256
        _download(file.url, path, file.size, context.progress, file.file)
        yield file, path


def _download(url: str, path: Path, limit: int, progress: Progress, name: str) -> None:
    """Copy what lies at `url` to `path`. Raises RemoteError when that fails or is more than `limit` bytes."""
    request = urllib.request.Request(url, headers={"User-Agent": "belljar", "Accept-Encoding": "identity"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            _copy(answer, path, limit, progress, name)
    except HTTPError as error:
        raise RemoteError(f"{url}: the server says {error.code} {error.reason}") from error
    except URLError as error:
        raise RemoteError(f"{url}: {_words(error.reason)}", hint="is there a network?") from error
    except TimeoutError as error:
        raise RemoteError(f"{url}: no data for {TIMEOUT:g} seconds") from error
    except (http.client.HTTPException, ValueError, ConnectionError) as error:
        raise RemoteError(f"{url}: {_words(error)}") from error
    except _WrongSizeError as error:
        raise RemoteError(f"{url}: {error}") from error
    except OSError as error:
        raise fsys.explained(error, path) from error


class _WrongSizeError(Exception):
    """There came more or less than there should have."""


def _copy(answer: http.client.HTTPResponse, path: Path, limit: int, progress: Progress, name: str) -> None:
    total = int(answer.headers.get("Content-Length") or 0)
    if total > limit:
        raise _WrongSizeError(f"{total} bytes, expected at most {limit}")
    done = 0
    with path.open("xb") as file:
        while chunk := answer.read(fsys.CHUNK):
            file.write(chunk)
            done += len(chunk)
            if done > limit:
                raise _WrongSizeError(f"more than {limit} bytes")
            progress(Event(stage="fetch", subject=name, done=done, total=max(total, done)))
    if done < total:
        raise _WrongSizeError(f"cut off after {done} of {total} bytes")


def _words(error: object) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__
