"""Programs that carry their own loader and libc."""

from belljar.seal.embed import Seal, embed, seal_of, unembed

__all__ = ["Seal", "embed", "seal_of", "unembed"]
