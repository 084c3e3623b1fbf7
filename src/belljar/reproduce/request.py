"""What can be asked for: a recipe, a command in a project as for `belljar run`, or a builder's own builds."""

from pathlib import Path

from belljar.hermetic.plan import plan
from belljar.hermetic.request import Request
from belljar.home import Home
from belljar.reproduce.recipe import of_recipe
from belljar.reproduce.reproduce import Options, investigate
from belljar.reproduce.result import Result
from belljar.reproduce.subject import Project, Subject, require_own_outputs
from belljar.types import Progress, quiet


def reproduce(
    what: Path | Request | Subject,
    options: Options | None = None,
    *,
    home: Home | None = None,
    progress: Progress = quiet,
) -> Result:
    """Build twice, as usual and with everything varied, and find what makes a difference.

    `what` is the directory of a recipe, a command in a project, or anything with `prepare` (`Subject`). A
    negative verdict is a value: `result.is_reproducible`. Nothing is left but `options.keep`.

    Raises BuildError when it does not build as usual, InputError when it makes nothing or the recipe is
    wrong, UsageError for influences that there are not, HostError when this machine cannot run a sandbox.
    """
    options, home = options or Options(), home or Home.from_environment()
    _ = options.influences  # names that there are not are to be told before anything is done
    if isinstance(what, Request):
        made = plan(what)
        require_own_outputs(made)
        return investigate(lambda stage: Project(plan=made, pristine=stage), options, home, progress)
    subject = (
        of_recipe(what, home, offline=options.offline, progress=progress) if isinstance(what, Path) else what
    )
    return investigate(lambda _: subject, options, home, progress)
