"""From a locked recipe to an artifact in the store."""

from belljar.build.build import Artifact, build
from belljar.build.order import Options
from belljar.build.refusal import GuaranteeError

__all__ = ["Artifact", "GuaranteeError", "Options", "build"]
