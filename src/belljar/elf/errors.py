"""The one way in which reading an ELF file fails."""

from belljar.errors import InputError


class ElfError(InputError):
    """The bytes are not a whole, sound ELF file; `offset` is where in the file that shows."""

    def __init__(self, what: str, *, offset: int) -> None:
        super().__init__(f"offset {offset:#x}: {what}")
        self.what = what
        self.offset = offset
