"""The commands as typed Python: what `belljar CMD` does, without printing.

    from pathlib import Path
    from belljar import api

    artifact = api.build(Path("examples/hello"))
    old = api.roots.obtain("glibc-2.17", api.Home.from_environment())
    matrix = api.verify(artifact.path, ["bin/hello"], [old])
    assert matrix.passed

A tree that anybody built, moved and taken back; nothing is written by a plan:

    plan = api.plan_relocation(Path("env"), api.Relocation(old="/opt/conda", new=Path("/srv/env")))
    if not plan.refusals:
        api.relocate(Path("env"), api.Relocation(old="/opt/conda", new=Path("/srv/env")))
        assert api.check(Path("env")) == ()
        api.undo(Path("env"))

Any command in a directory without a recipe, and what it was let have, started and reached for:

    record = api.run(api.RunRequest(command=("make",), project=Path("."), env=dict(os.environ)))
    assert record.status == 0 and not record.disarmed

What a build depends on; `what` may be a recipe's directory, such a request, or a builder's own `api.Subject`:

    result = api.reproduce(request, api.ReproduceOptions(dont_vary=("environment",)))
    for cause in result.causes:
        print(cause.names, [path for path, _ in cause.spots], cause.remedy)

`api.stage` and `api.roots` are rooms: `api.stage.plan(...)`, `api.roots.obtain(name, home)`.

Functions return frozen values and raise kinds of `BelljarError`; a negative verdict is a value, except
where it means that nothing was made (`GuaranteeError`). `progress` takes a function that is told of each
step. The names in this module are the public interface: they change only with a line in the changelog.
"""

from belljar import stage
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
from belljar.hermetic.plan import Plan as RunPlan
from belljar.hermetic.plan import plan as plan_run
from belljar.hermetic.record import Record as RunRecord
from belljar.hermetic.request import Request as RunRequest
from belljar.hermetic.run import run_request as run
from belljar.home import Home
from belljar.recipe import Lock, Recipe
from belljar.recipe import load as load_recipe
from belljar.recipe.fetch import fetch
from belljar.recipe.resolve import lock
from belljar.relocate import Scan, scan
from belljar.relocate.change import Plan, Refusal
from belljar.relocate.consistency import Finding
from belljar.relocate.consistency import status as relocations
from belljar.relocate.install import install, uninstall
from belljar.relocate.install import plan as plan_installation
from belljar.relocate.moved import Moved, moved
from belljar.relocate.moving import Applied, resume
from belljar.relocate.request import Relocation, check, plan_relocation, relocate, undo
from belljar.reproduce import Cause, Metadata, Ready, Subject, reproduce
from belljar.reproduce import Options as ReproduceOptions
from belljar.reproduce import Result as Reproduction
from belljar.sandbox import Sandbox
from belljar.seal.doing import Unsealing
from belljar.seal.doing import check as check_seal
from belljar.seal.launcher import Form
from belljar.seal.plan import Options as SealOptions
from belljar.seal.plan import Sealing
from belljar.seal.plan import plan as plan_sealing
from belljar.seal.prefix import seal, seal_environment, unseal
from belljar.seal.whole import Fault
from belljar.store import Store, StoreName
from belljar.types import Arch, Event, Progress, quiet
from belljar.verify import Matrix, Root, roots, verify

__all__ = [
    "Applied",
    "Arch",
    "Artifact",
    "BelljarError",
    "BuildError",
    "Cause",
    "Event",
    "Fault",
    "Finding",
    "Form",
    "GuaranteeError",
    "Home",
    "HostError",
    "InputError",
    "IntegrityError",
    "Lock",
    "Matrix",
    "Metadata",
    "Moved",
    "NegativeVerdict",
    "Options",
    "Plan",
    "Policy",
    "Progress",
    "Ready",
    "Recipe",
    "Refusal",
    "Relocation",
    "RemoteError",
    "Report",
    "ReproduceOptions",
    "Reproduction",
    "Root",
    "RunPlan",
    "RunRecord",
    "RunRequest",
    "Sandbox",
    "Scan",
    "SealOptions",
    "Sealing",
    "Store",
    "StoreName",
    "Subject",
    "Unsealing",
    "UsageError",
    "audit",
    "build",
    "check",
    "check_seal",
    "fetch",
    "foresee",
    "install",
    "load_recipe",
    "lock",
    "moved",
    "plan_installation",
    "plan_relocation",
    "plan_run",
    "plan_sealing",
    "quiet",
    "relocate",
    "relocations",
    "reproduce",
    "resume",
    "roots",
    "run",
    "scan",
    "seal",
    "seal_environment",
    "stage",
    "undo",
    "uninstall",
    "unseal",
    "verify",
]
