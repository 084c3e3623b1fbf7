"""Running outputs on real systems.

    from belljar.verify import roots, verify
    matrix = verify(tree, ["bin/hello"], [roots.obtain("glibc-2.17", home)])

`roots` keeps root filesystems by name, `builtin` makes those that belljar knows, `view` puts a root and
a tree together, `verify` runs a command on them and returns a `Matrix` of results.
"""

from belljar.verify.matrix import Captured, Matrix, Result
from belljar.verify.root import Root
from belljar.verify.verify import verify

__all__ = ["Captured", "Matrix", "Result", "Root", "verify"]
