"""Programs that carry their own loader and libc."""

from belljar.seal.embed import embed, unembed

__all__ = ["embed", "unembed"]
