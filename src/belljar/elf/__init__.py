"""ELF files: bytes in, frozen values out; no input or output."""
