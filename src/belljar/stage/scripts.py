"""Wrapper programs: POSIX shell scripts that call a compiler with the words that make it build for a glibc.

Wrappers and not CFLAGS: flags pass through make, shells, libtool and CMake, each with a quoting of its
own (`$ORIGIN` is the classic victim), and a build is free to overwrite them. A wrapper adds its words
last, where the compiler's own defaults stand: all that the build says comes before them. One `exec`, no fork.

What is added:
- the prefix's `include` and library directories, when they are there, so that what was installed before is
  found;
- where a program or library is linked, a search path relative to itself, which `belljar seal` follows; not
  under `-c`, `-E`, `-S`, `-M`, `-r`, nor without an input file (`cc -v`);
- the compiler's own variables for directories (CPATH and others) are unset: they name the host's.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

_UNSET = (
    *("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "LIBRARY_PATH"),
    *("LD_RUN_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES"),
)
_ADD_PATH = '  set -- "$@" "-Wl,-rpath,$path"\n'
_SHARED_PATH = "$ORIGIN:$ORIGIN/.."


def compiler(
    words: Sequence[str],
    prefix: str,
    libraries: Sequence[str],
    *,
    first: str = "",
    head: str = "",
    tail: Sequence[str] = (),
    link: Sequence[str] = (),
) -> str:
    """Return a compiler's wrapper: `head` (whole lines), then `words`, the caller's, the prefix's, `tail`.

    `libraries` are the prefix's library directories, relative to it; `tail` is left out under -nostdinc;
    `link` is added where something is linked (clang warns of such words where nothing is).
    `first` is a word put before the caller's; in `head`, `$input` says whether there is an input file.
    """
    program_path = ":".join(program_paths(libraries))
    before = f'set -- {first} "$@"\n' if first else ""
    standard = f'[ -z "$standard" ] || set -- "$@" {shlex.join(tail)}\n' if tail else ""
    linking = f'  set -- "$@" {shlex.join(link)}\n' if link else ""
    return f"""\
#!/bin/sh
# Made by `belljar stage`; see docs/stage.md.
unset {" ".join(_UNSET)}
prefix={shlex.quote(prefix)}
path={shlex.quote(program_path)} links=yes input= language= standard=yes
{before}for word do
  case $word in
    -c | -S | -E | -M | -MM | -fsyntax-only | -r) links= ;;
    -shared) path={shlex.quote(_SHARED_PATH)} ;;
    -nostdinc) standard= ;;
    -x*) language=yes ;;
    -) input=stdin ;;
    -*) ;;
    *) input=${{input:-file}} ;;
  esac
done
{head}[ ! -d "$prefix/include" ] || set -- "$@" -isystem "$prefix/include"
{standard}if [ "$links" ] && [ "$input" ]; then
  for directory in {" ".join(libraries)}; do
    [ ! -d "$prefix/$directory" ] || set -- "$@" "-L$prefix/$directory"
  done
{linking}{_ADD_PATH}fi
exec {shlex.join(words)} "$@"
"""


def program_paths(libraries: Sequence[str]) -> tuple[str, ...]:
    """Return where a program in `bin` looks for libraries."""
    return tuple(f"$ORIGIN/../{name}" for name in libraries)


def without_path(text: str) -> str:
    """Return a compiler's wrapper that adds no search path, for build systems that keep their own."""
    return text.replace(_ADD_PATH, "")


def zig_head(zig: Path, cache: str, triple: str, language: str) -> str:
    """Return what a wrapper of zig does first; `cache` is text for a shell that names zig's cache.

    Without a source file that it knows as one, zig passes its words on to clang, which knows no version
    behind a triple: standard input gets a language, a question (`cc -v`) a triple without one. Asked for its
    linker, zig says a name that Meson before 1.3 does not know; it is lld.
    """
    program = shlex.quote(str(zig))
    return f"""\
{zig_cache(cache)}if [ -z "$input" ]; then
  [ "$*" != -Wl,--version ] || exec {program} ld.lld --version
  exec {program} cc -target {triple} "$@"
fi
[ "$input$language" != stdin ] || set -- -x {language} "$@"
"""


def zig_cache(cache: str) -> str:
    """Return the lines that choose zig's cache, unless the caller has."""
    return f"""\
cache={cache}
export ZIG_GLOBAL_CACHE_DIR="${{ZIG_GLOBAL_CACHE_DIR:-$cache}}"
export ZIG_LOCAL_CACHE_DIR="${{ZIG_LOCAL_CACHE_DIR:-$cache}}"
"""


def plain(words: Sequence[str], head: str = "") -> str:
    """Return a wrapper that only names another program."""
    return f'#!/bin/sh\n# Made by `belljar stage`; see docs/stage.md.\n{head}exec {shlex.join(words)} "$@"\n'


def refusal(message: str) -> str:
    """Return a program that says why it does nothing and fails."""
    return f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(f'belljar stage: {message}')} >&2\nexit 1\n"
