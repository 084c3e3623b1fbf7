"""Staging: a toolchain for a chosen glibc, under the names that unmodified builds look for.

`plan` gives a `Stage`: wrapper programs, files for CMake and Meson, variables. `write` puts the files where
the stage says; `shell` says the variables to a shell.
"""

from belljar.stage.plan import Stage, plan, write
from belljar.stage.toolchain import Toolchain, of_cc, of_zig

__all__ = ["Stage", "Toolchain", "of_cc", "of_zig", "plan", "write"]
