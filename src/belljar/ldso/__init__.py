"""Which libraries a program gets, and why: as glibc's and musl's loaders would, without running anything."""

from belljar.ldso.binary import DlopenName
from belljar.ldso.cache import Cache
from belljar.ldso.closure import Closure, Dlopened, Edge, How, Object, Unresolved
from belljar.ldso.cpu import Cpu
from belljar.ldso.linker import Surroundings
from belljar.ldso.loader import Libc
from belljar.ldso.resolve import resolve

__all__ = [
    "Cache",
    "Closure",
    "Cpu",
    "DlopenName",
    "Dlopened",
    "Edge",
    "How",
    "Libc",
    "Object",
    "Surroundings",
    "Unresolved",
    "resolve",
]
