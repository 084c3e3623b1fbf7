"""The private directory of a sealed prefix: loader, libc and all libraries that are not the prefix's own.

    PREFIX/lib/belljar/
        ld-linux-x86-64.so.2, libc.so.6      private copies (belljar.seal.libc)
        libbelljar.so, belljar.stub          what launchers need, and padded programs (belljar.seal.padded)
        libssl.so.3, ...                     under the names by which they are needed, without search paths
        locale/NAME, gconv/                  where they are asked for or needed
        licenses/PACKAGE                     what the packages of these files say of copying
        host-1/libcuda.so.1, ...             links to where hosts have what is declared to come from them
        seal.json                            what was sealed, from what, and how to take it back

It is made as a whole beside its place and renamed in; nothing in a program points to it before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from belljar import fsys
from belljar.elf import ElfError, read
from belljar.elf.edit import edit
from belljar.elf.names import EditRefused, RemoveRunpath
from belljar.errors import InputError
from belljar.seal import record as record_file
from belljar.seal.libc import private_libc, private_loader
from belljar.splice import Splice, spliced

LIBC = "libc.so.6"
HOST_DIRECTORIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",
    "/usr/local/nvidia/lib64",
)
"""Where hosts have the libraries of their drivers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What the private directory is to hold: files by the name that they get there, and from where.

    `trees` are directories that are copied whole (locale/NAME, gconv); `host` are names of libraries that
    stay the host's. `loader` is the name of the loader among `files`; `own` are files of belljar's.
    """

    loader: str
    files: Mapping[str, Path]
    trees: Mapping[str, Path] = field(default_factory=dict)
    host: tuple[str, ...] = ()
    licenses: Mapping[str, Path] = field(default_factory=dict)
    unlicensed: tuple[str, ...] = ()
    own: Mapping[str, bytes] = field(default_factory=dict)

    def describe(self) -> list[str]:
        """Say what is bundled, one line each."""
        lines = [f"bundle {name} from {source}" for name, source in sorted(self.files.items())]
        lines += [f"bundle {name}/ from {source}" for name, source in sorted(self.trees.items())]
        lines += [f"bundle {name} of belljar" for name in self.own]
        lines += [f"leave {name} to the host" for name in self.host]
        return [*lines, *(f"bundle the licence of {name}" for name in sorted(self.licenses))]

    @property
    def host_links(self) -> dict[str, str]:
        """The links (path in the private directory, target) to what stays the host's."""
        return {
            f"host-{number}/{name}": f"{directory}/{name}"
            for number, directory in enumerate(HOST_DIRECTORIES, 1)
            for name in self.host
        }


def content_of(bundle: Bundle, name: str) -> bytes:
    """Return a bundled file's content: private, without search paths.

    Raises InputError for a library that cannot be made so.
    """
    source = bundle.files[name]
    image = source.read_bytes()
    try:
        return spliced(image, _edits(bundle, name, image), subject=str(source))
    except (ElfError, EditRefused) as error:
        raise InputError(f"{source}: cannot be bundled: {error.message}") from error


def _edits(bundle: Bundle, name: str, image: bytes) -> tuple[Splice, ...]:
    if name == bundle.loader:
        return private_loader(image)
    if name == LIBC:
        return private_libc(image)
    dynamic = read(image, exports=False).dynamic
    has_path = dynamic is not None and (dynamic.rpath is not None or dynamic.runpath is not None)
    return edit(image, [RemoveRunpath()]) if has_path else ()


def write(bundle: Bundle, directory: Path, record: Mapping[str, Any]) -> None:
    """Make the private directory at `directory`, which does not exist.

    Raises InputError, HostError; what is there then is incomplete.
    """
    try:
        _write(bundle, directory, record)
    except OSError as error:
        raise fsys.explained(error, directory) from error


def _write(bundle: Bundle, directory: Path, record: Mapping[str, Any]) -> None:
    directory.mkdir()
    digests = {}
    for name, source in sorted(bundle.files.items()):
        content = content_of(bundle, name)
        digests[name] = {"source": str(source), "sha256": hashlib.sha256(content).hexdigest()}
        _write_file(directory / name, content, is_program=name == bundle.loader)
    for name, content in bundle.own.items():
        digests[name] = {"source": record_file.OWN, "sha256": hashlib.sha256(content).hexdigest()}
        _write_file(directory / name, content)
    for name, source in sorted(bundle.trees.items()):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, directory / name, symlinks=False, copy_function=_copy)
    for name, source in sorted(bundle.licenses.items()):
        (directory / "licenses").mkdir(exist_ok=True)
        _write_file(directory / "licenses" / name, source.read_bytes())
    for name, target in bundle.host_links.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).symlink_to(target)
    bundled = {"files": digests, "trees": sorted(bundle.trees), "host": list(bundle.host)}
    whole = json.dumps({**record, **bundled}, indent=1, sort_keys=True) + "\n"
    _write_file(directory / record_file.NAME, whole.encode(errors="surrogateescape"))
    _settle(directory)


def _write_file(path: Path, content: bytes, *, is_program: bool = False) -> None:
    path.write_bytes(content)
    path.chmod(0o755 if is_program else 0o644)


def _copy(source: str, target: str) -> str:
    shutil.copyfile(source, target)
    os.chmod(target, 0o644)
    return target


def _settle(directory: Path) -> None:
    """Give all one time, so that one input gives one output."""
    for entry in fsys.walk(directory):
        os.utime(directory / entry.path, (_EPOCH, _EPOCH), follow_symlinks=False)


_EPOCH = 315_619_200  # 2 January 1980, as everything that belljar makes


def licenses_of(files: Mapping[str, Path], root: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the copyright files of the Debian packages that own some files, by package.

    Second come the names of files of which no package says under what licence they are.
    """
    spellings = {
        os.fsencode(spelling): name for name, source in files.items() for spelling in _spellings(source, root)
    }
    texts, told = {}, set()
    for listing in sorted((root / "var/lib/dpkg/info").glob("*.list")):
        owned = spellings.keys() & listing.read_bytes().split(b"\n")
        package = listing.name.removesuffix(".list").partition(":")[0]
        text = root / "usr/share/doc" / package / "copyright"
        if owned and text.is_file():
            texts[package] = text
            told |= {spellings[path] for path in owned}
    return texts, tuple(sorted(files.keys() - told))


def _spellings(source: Path, root: Path) -> tuple[str, ...]:
    """Return how a package may call a file, on systems where /lib is a link to /usr/lib, and others."""
    if not source.is_relative_to(root):
        return ()
    path = f"/{source.relative_to(root)}"
    return path, path.removeprefix("/usr"), f"/usr{path}"
