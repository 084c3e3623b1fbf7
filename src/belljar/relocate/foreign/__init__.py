"""Trees that belljar did not build: what moving one takes, kind by kind of content; plans, writes nothing."""

from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.plan import plan
from belljar.relocate.foreign.prefix import Candidate, find
from belljar.relocate.foreign.subject import Options

__all__ = ["Candidate", "Moves", "Options", "find", "plan"]
