"""What stands at a program's path when it is sealed without changing it: a file that starts it elsewhere.

The program lies in `libexec/` then, byte for byte as it was, and the launcher executes the prefix's loader
with it: `ld.so --library-path DIRECTORIES --argv0 NAME PROGRAM ARGUMENTS`. Two forms:

- `static`: an ELF file of one segment, no libc (seal/stub/launcher.c). Its headers are written here.
- `sh`: a POSIX script. It starts no other program, but `readlink` for each symbolic link that leads to it.

Both resolve symbolic links to themselves, work in directories with spaces, and give the loader no absolute
path but its own and the program's: the directories are `$ORIGIN/...`, which the loader takes from the
program's place. The process is the loader's, so /proc/self/exe and the process's name are too:
docs/sealing.md has a table. That is why neither is the default.

What the host's user has preloaded must not reach the loader, but must reach the program's children. Where
LD_PRELOAD, LD_AUDIT or LD_ORIGIN_PATH are set, they get other names, and the loader is told to preload a
library of the prefix (seal/stub/show.c) that gives the names back before the program begins.
"""

import enum
import shlex
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from belljar.elf.names import EditRefused
from belljar.seal.blob import PAGES, code_of

MAGIC = b"BELLJARL"
HELPER = "libbelljar.so"
"""The library that shows a program what was hidden from its loader."""
_SCRIPT_MARK = b"#!/bin/sh\n# belljar: starts "
_BASE, _START = 0x400000, 0xB0
"""Where the file is mapped, and how far into it the code lies (tools/stub.py links it for that)."""
_HEADER, _SEGMENT = struct.Struct("<16s2HI3QI6H"), struct.Struct("<2I6Q")
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_EXECUTABLE, _LOAD, _STACK, _READ_WRITE, _READ_EXECUTE = 2, 1, 0x6474E551, 6, 5
_LIMIT = 1024  # bytes of a path in the configuration


class Form(enum.StrEnum):
    """How the programs of a prefix are made to start on its loader."""

    EMBEDDED = "embedded"
    """The program finds its loader itself (belljar.seal.embed)."""
    STATIC = "static"
    SH = "sh"
    AUTO = "auto"
    """`embedded`, and `static` for programs that cannot be sealed so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a launcher is to do; paths are relative to its own directory (`../libexec/app`).

    `search` are directories of libraries as the loader is told; `options` are other options of the loader,
    the last of which may be `--argv0`; `variables` are set to the absolute form of their paths.
    """

    loader: str
    program: str
    search: Sequence[str]
    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The loader's options, in their order."""
        return ["--inhibit-rpath", ":", "--library-path", ":".join(self.search), *self.options]


def options_of(loader: bytes) -> tuple[str, ...]:
    """Return which options that not every release has a loader knows: `--argv0` since glibc 2.33."""
    return tuple(word for word in ("--inhibit-cache", "--argv0") if word.encode() + b"\0" in loader)


def content(form: Form, machine: int, launch: Launch) -> bytes:
    """Return the file that starts a program; raises EditRefused when there is none for that machine."""
    return _script(launch) if form is Form.SH else _program(machine, launch)


def helper(machine: int) -> Mapping[str, bytes]:
    """Return the library that launchers need, by its name; raises EditRefused for a machine that has none."""
    _demand_code(machine)
    return {HELPER: code_of("show", machine)}


def is_launcher(image: bytes) -> bool:
    """Whether a file is a launcher, of either form; `image` may be its first 8 KiB."""
    return image.startswith(_SCRIPT_MARK) or (image.startswith(_IDENT[:4]) and MAGIC in image[:8192])


def _program(machine: int, launch: Launch) -> bytes:
    _demand_code(machine)
    page, code = PAGES[machine], code_of("launcher", machine)
    variables = [word for key, path in launch.variables.items() for word in (f"{key}=", f"/{path}")]
    words = [f"/{launch.loader}", f"/{launch.program}", *launch.words, "", *variables, ""]
    encoded = [word.encode(errors="surrogateescape") for word in words]
    if any(len(word) > _LIMIT for word in encoded):
        raise EditRefused(f"needs a path of more than {_LIMIT} bytes")
    body = code + MAGIC + b"".join(word + b"\0" for word in encoded)
    size = _START + len(body)
    header = _HEADER.pack(
        _IDENT,
        _EXECUTABLE,
        machine,
        1,
        _BASE + _START,
        _HEADER.size,
        0,
        0,
        _HEADER.size,
        _SEGMENT.size,
        2,
        0,
        0,
        0,
    )
    load = _SEGMENT.pack(_LOAD, _READ_EXECUTE, 0, _BASE, _BASE, size, size, page)
    stack = _SEGMENT.pack(_STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16)
    return (header + load + stack).ljust(_START, b"\0") + body


def _demand_code(machine: int) -> None:
    if machine not in PAGES:
        raise EditRefused("is for a machine that belljar has no launcher for (x86-64, aarch64)")


_SCRIPT = """{mark}{program} on the loader of this prefix (docs/sealing.md)
belljar_self=$0
case $belljar_self in */*) ;; *) belljar_self=./$belljar_self ;; esac
while [ -h "$belljar_self" ]; do
    belljar_link=$(readlink "$belljar_self" && echo .) || exit 127
    belljar_link=${{belljar_link%??}}
    case $belljar_link in
    /*) belljar_self=$belljar_link ;;
    *) belljar_self=${{belljar_self%/*}}/$belljar_link ;;
    esac
done
belljar_self=${{belljar_self%/*}}
case $belljar_self in /* | '') ;; *) belljar_self=$PWD/$belljar_self ;; esac
{exports}if [ "${{LD_PRELOAD+x}}${{LD_AUDIT+x}}${{LD_ORIGIN_PATH+x}}" ]; then
    [ -z "${{LD_PRELOAD+x}}" ] || export BJ_PRELOAD="$LD_PRELOAD"
    [ -z "${{LD_AUDIT+x}}" ] || export BJ_AUDIT="$LD_AUDIT"
    [ -z "${{LD_ORIGIN_PATH+x}}" ] || export BJ_ORIGIN_PATH="$LD_ORIGIN_PATH"
    unset LD_AUDIT LD_ORIGIN_PATH
    export LD_PRELOAD={helper}
fi
exec {command} "$@"
"""


def _script(launch: Launch) -> bytes:
    """Return the POSIX script. `%??` cuts the newline of `readlink` and the mark behind it."""
    exports = "".join(
        f'{name}="$belljar_self"/{shlex.quote(path)}\nexport {name}\n'
        for name, path in launch.variables.items()
    )
    options = [shlex.quote(word) for word in launch.words]
    if launch.words[-1] == "--argv0":
        options.append('"$0"')
    places = [f'"$belljar_self"/{shlex.quote(path)}' for path in (launch.loader, launch.program)]
    text = _SCRIPT.format(
        mark=_SCRIPT_MARK.decode(),
        program=shlex.quote(launch.program),
        exports=exports,
        helper=HELPER,
        command=" ".join([places[0], *options, places[1]]),
    )
    return text.encode(errors="surrogateescape")
