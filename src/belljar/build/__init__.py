"""From a locked recipe to an artifact in the store."""

from belljar.build.build import Artifact, Options, build
from belljar.build.foresight import Foresight, foresee
from belljar.build.guarantees import GuaranteeError

__all__ = ["Artifact", "Foresight", "GuaranteeError", "Options", "build", "foresee"]
