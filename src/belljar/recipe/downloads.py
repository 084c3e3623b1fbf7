"""Downloaded files, kept by content: `<sha256>-<name>` below `Home.downloads`.

A file is hashed before it gets that name, by renaming, so that a crash leaves no file under a name
that it does not deserve and two fetches of one file do not disturb each other. A file whose content
is found to be another one later (a failing disk, a meddling hand) is removed and reported.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from belljar import fsys
from belljar.errors import IntegrityError
from belljar.home import Home
from belljar.recipe.lock import LockedFile


def path_of(file: LockedFile, home: Home) -> Path:
    """Return where a file is once it has been downloaded."""
    return home.downloads / f"{file.sha256}-{file.file}"


def find(file: LockedFile, home: Home) -> Path | None:
    """Return the verified download of a file, or None when it is not there.

    Raises IntegrityError when its content is not what the lock says; the file is removed then.
    """
    path = path_of(file, home)
    if not path.is_file():
        return None
    _verify(path, file)
    return path


def admit(path: Path, file: LockedFile, home: Home) -> Path:
    """Take a fresh download, moving it into place; it must lie on the same filesystem.

    Raises IntegrityError when its content is not what the lock says; the file is removed then.
    HostError when the disk does not take it.
    """
    _verify(path, file)
    target = path_of(file, home)
    try:
        path.chmod(0o444)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    except OSError as error:
        raise fsys.explained(error, target) from error
    return target


@contextmanager
def incoming(home: Home) -> Iterator[Path]:
    """Make a directory for files on their way in; it is removed at the end with what is left in it."""
    with fsys.staging(home.cache / "incoming") as path:
        yield path


def _verify(path: Path, file: LockedFile) -> None:
    found = fsys.sha256(path)
    if found != file.sha256 or path.stat().st_size != file.size:
        path.unlink()
        raise IntegrityError(
            f"{file.file}: not the file that was locked: sha256 is {found}, want {file.sha256}",
            hint="the file was removed; fetch again, or run `belljar lock` if the new content is wanted",
        )
