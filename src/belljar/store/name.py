"""Names of store entries: `<hash>-<name>-<version>`, where the hash follows from the inputs.

The hash is the first 160 bits of a SHA-256 in the lower-case base 32 of RFC 4648: 32 characters,
so that every name of a package has one length and a name can be told apart wherever it stands.
"""

import base64
import re
from dataclasses import dataclass

from belljar.errors import InputError
from belljar.types import Digest

_PATTERN = re.compile(r"([a-z2-7]{32})-([a-z0-9][a-z0-9._+-]*)-([A-Za-z0-9][A-Za-z0-9._+~]*)")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class StoreName:
    """The name of one entry: what it is, and the hash of everything that it was made from."""

    package: str
    version: str
    hash: str

    @classmethod
    def make(cls, package: str, version: str, inputs: Digest) -> "StoreName":
        """Name what is made from the inputs with that digest."""
        short = base64.b32encode(bytes.fromhex(inputs)[:20]).decode().lower()
        return cls(package=package, version=version, hash=short)

    @classmethod
    def parse(cls, text: str) -> "StoreName":
        """Read a name; raises InputError where it is none."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise InputError(f"{text!r}: not the name of a store entry")
        return cls(hash=match[1], package=match[2], version=match[3])

    def __str__(self) -> str:
        return f"{self.hash}-{self.package}-{self.version}"
