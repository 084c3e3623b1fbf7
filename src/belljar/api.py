"""The commands as typed Python: what `belljar CMD` does, without printing.

    from pathlib import Path
    from belljar import api

    artifact = api.build(Path("examples/hello"))
    old = api.roots.obtain("glibc-2.17", api.Home.from_environment())
    matrix = api.verify(artifact.path, ["bin/hello"], [old])
    assert matrix.passed

Functions return frozen values and raise kinds of `BelljarError`; a negative verdict is a value, except
where it means that nothing was made (`GuaranteeError`). `progress` takes a function that is told of each
step. The names in this module are the public interface: they change only with a line in the changelog.
"""

from belljar.audit import Policy, Report, audit
from belljar.build import Artifact, GuaranteeError, Options, build
from belljar.build.foresight import foresee
from belljar.errors import (
    BelljarError,
    BuildError,
    HostError,
    InputError,
    IntegrityError,
    NegativeVerdict,
    RemoteError,
    UsageError,
)
from belljar.home import Home
from belljar.recipe import Lock, Recipe
from belljar.recipe import load as load_recipe
from belljar.recipe.fetch import fetch
from belljar.recipe.resolve import lock
from belljar.relocate import Scan, scan
from belljar.relocate.install import install, uninstall
from belljar.relocate.install import plan as plan_installation
from belljar.seal.doing import Unsealing
from belljar.seal.doing import check as check_seal
from belljar.seal.launcher import Form
from belljar.seal.plan import Options as SealOptions
from belljar.seal.plan import Sealing
from belljar.seal.plan import plan as plan_sealing
from belljar.seal.prefix import seal, seal_environment, unseal
from belljar.seal.whole import Fault
from belljar.store import Store, StoreName
from belljar.types import Event, Progress, quiet
from belljar.verify import Matrix, Root, roots, verify

__all__ = [
    "Artifact",
    "BelljarError",
    "BuildError",
    "Event",
    "Fault",
    "Form",
    "GuaranteeError",
    "Home",
    "HostError",
    "InputError",
    "IntegrityError",
    "Lock",
    "Matrix",
    "NegativeVerdict",
    "Options",
    "Policy",
    "Progress",
    "Recipe",
    "RemoteError",
    "Report",
    "Root",
    "Scan",
    "SealOptions",
    "Sealing",
    "Store",
    "StoreName",
    "Unsealing",
    "UsageError",
    "audit",
    "build",
    "check_seal",
    "fetch",
    "foresee",
    "install",
    "load_recipe",
    "lock",
    "plan_installation",
    "plan_sealing",
    "quiet",
    "roots",
    "scan",
    "seal",
    "seal_environment",
    "uninstall",
    "unseal",
    "verify",
]
