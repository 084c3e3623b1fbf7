"""What of the builder's machine is left in a file."""

from belljar.audit.ties.patterns import Certainty, Kind
from belljar.audit.ties.places import Where
from belljar.audit.ties.remedies import remedy_of
from belljar.audit.ties.scan import Scanner, Tie
from belljar.audit.ties.traits import Trait, TraitFound, traits_of

__all__ = ["Certainty", "Kind", "Scanner", "Tie", "Trait", "TraitFound", "Where", "remedy_of", "traits_of"]
