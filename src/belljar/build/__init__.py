"""From a locked recipe to an artifact in the store."""

from belljar.build.build import Artifact, Options, build
from belljar.build.foresight import Foresight, foresee

__all__ = ["Artifact", "Foresight", "Options", "build", "foresee"]
