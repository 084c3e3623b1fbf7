"""From a path to its closure: pick the loader, load, look what is missing."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from belljar.elf import Header
from belljar.elf.const import Flag1, Type
from belljar.elf.sealed import Seal
from belljar.errors import InputError
from belljar.ldso import sealed
from belljar.ldso.binary import Binary
from belljar.ldso.cache import Cache
from belljar.ldso.closure import Closure, Dlopened, Object
from belljar.ldso.cpu import Cpu, baseline, host_cpu
from belljar.ldso.glibc import GlibcLinker
from belljar.ldso.linker import Linker, Loaded, Surroundings
from belljar.ldso.loader import Libc, Loader, default_names
from belljar.ldso.musl import MuslLinker
from belljar.ldso.symbols import find_unresolved


def resolve(
    path: Path,
    *,
    root: Path = Path("/"),
    surroundings: Surroundings = Surroundings(),  # noqa: B008 - frozen
    cache: Cache | None = None,
    seal: Seal | None = None,
) -> Closure:
    """Return what the loader of `root` would load for the file at `path`, which is a path inside the root.

    With a `seal` it is loaded as a sealed prefix loads it: a program with an embedded loader, what a launcher
    starts, or a library that such programs open. Without one even a sealed program is taken as if it was
    not. Nothing is run. Give one `cache` for many files of one root; it takes the place of `root`. Raises
    ElfError when the file is damaged, InputError when it cannot be read.
    """
    cache = cache or Cache(root)
    program = _program(cache, os.path.join("/", path))
    if seal is not None:
        program = sealed.started(program, seal)
        surroundings = replace(surroundings, library_path=sealed.search_of(seal))
    loader = _loader(cache, program.binary)
    if loader is None:
        return _alone(program)
    header = program.binary.elf.header
    kind = GlibcLinker if loader.libc is Libc.GLIBC else MuslLinker
    linker = (kind if seal is None else sealed.kind_of(loader, cache))(
        cache=cache,
        loader=loader,
        surroundings=surroundings,
        cpu=surroundings.cpu or _cpu(cache, header),
        program=program,
    )
    linker.run()
    return Closure(
        path=program.path,
        libc=loader.libc,
        loader=loader.name,
        loader_found=linker.interpreter is not None,
        objects=tuple(map(_object, linker.objects)),
        edges=tuple(linker.edges),
        unresolved=tuple(find_unresolved(linker.objects, cache.providers)),
        dlopened=tuple(_dlopened(linker)),
    )


def _program(cache: Cache, path: str) -> Loaded:
    try:
        place = cache.root.locate(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return Loaded(path=path, place=place, binary=cache.binary(place))


def _loader(cache: Cache, binary: Binary) -> Loader | None:
    """Return the loader that a file names, or for a library the one it was made for; None for neither."""
    header = binary.elf.header
    if binary.elf.interpreter:
        return cache.loader(binary.elf.interpreter, header)
    names = default_names(header)
    dynamic = binary.elf.dynamic
    is_static = dynamic is None or header.type != Type.DYN or dynamic.flags_1 & Flag1.PIE
    if not names or (is_static and not binary.needed):
        return None
    return cache.loader(_likely(cache, names, binary), header)


def _likely(cache: Cache, names: tuple[str, ...], binary: Binary) -> str:
    """Return the loader whose libc a library needs; else the first one that is there."""
    needs_musl = any(name == "libc.so" or name.startswith("libc.musl-") for name in binary.needed)
    if needs_musl or "libc.so.6" in binary.needed:
        return names[-1] if needs_musl else names[0]
    return next((name for name in names if cache.has(name)), names[0])


def _cpu(cache: Cache, header: Header) -> Cpu:
    return host_cpu(header.machine) if cache.root.top == Path("/") else baseline(header.machine)


def _alone(program: Loaded) -> Closure:
    """Return the closure of a file that needs no loader."""
    return Closure(
        path=program.path,
        libc=None,
        loader=None,
        loader_found=False,
        objects=(_object(program),),
        edges=(),
        unresolved=(),
        dlopened=(),
    )


def _object(loaded: Loaded) -> Object:
    return Object(
        path=loaded.path,
        real=loaded.place.path,
        soname=loaded.binary.soname,
        asker=loaded.asker.path if loaded.asker else None,
    )


def _dlopened(linker: Linker) -> Iterator[Dlopened]:
    """Yield what the loaded files may open; of a note's alternatives the first that is there."""
    for loaded in linker.objects:
        for item in loaded.binary.dlopens:
            edges = [linker.find(name, loaded).edge for name in item.names]
            edge = next((edge for edge in edges if edge.path is not None), edges[0])
            yield Dlopened(
                asker=loaded.path,
                name=edge.name,
                source=item.source,
                priority=item.priority,
                feature=item.feature,
                how=edge.how,
                path=edge.path,
            )
