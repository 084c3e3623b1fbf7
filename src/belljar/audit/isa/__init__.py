"""Which CPU a binary needs, read from its code (docs/cpu-levels.md)."""

from belljar.audit.isa.examine import examine
from belljar.audit.isa.facts import By, Coverage, Effort, Evidence, Extension, IsaFacts, Tier

__all__ = ["By", "Coverage", "Effort", "Evidence", "Extension", "IsaFacts", "Tier", "examine"]
