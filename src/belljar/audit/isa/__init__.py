"""Which CPU a binary needs, read from its code (docs/cpu-levels.md)."""

from belljar.audit.isa.examine import examine
from belljar.audit.isa.facts import By, Coverage, Effort, Evidence, Extension, IsaFacts, Tier
from belljar.audit.isa.site import Site, site_at

__all__ = [
    "By",
    "Coverage",
    "Effort",
    "Evidence",
    "Extension",
    "IsaFacts",
    "Site",
    "Tier",
    "examine",
    "site_at",
]
