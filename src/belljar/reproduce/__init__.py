"""What a build depends on: build again under varied conditions, compare, and name what caused a difference.

`world` is what a build can see of where and when it runs, `variation` the influences as data: each gives some
of that another value. `subject` is what is built, `trial` one build of it in one world, `difference` and
`parts` say where two trees differ and `evidence` what kind of thing differs; `search` finds the influences
behind it in few builds, `reproduce` puts it together and `request` begins it. docs/reproduce.md.
"""

from belljar.reproduce.reproduce import Options
from belljar.reproduce.request import reproduce
from belljar.reproduce.result import Cause, Result
from belljar.reproduce.subject import Ready, Subject
from belljar.reproduce.trees import Metadata

__all__ = ["Cause", "Metadata", "Options", "Ready", "Result", "Subject", "reproduce"]
