"""Checksums as functions of the location: what a sum becomes when bytes under it are overwritten.

CRC-32 is linear over GF(2), Adler-32 over the integers modulo 65521. So the change of a sum follows from
the bytes that changed and how far they stand before the end of what is summed; the rest of the content
need not be read. What is known of the places is folded into a *weight* of one or two numbers, however
many there are: relocating a compressed file costs the same as relocating any other.

Sources: RFC 1950 (Adler-32), RFC 1952 section 8 (CRC-32); the way to multiply is that of zlib's
crc32_combine. Other hashes have no such law; `digest` reads the whole file.
"""

import base64
import enum
import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path

Weight = tuple[int, ...]
"""What the distances of all places of one shape come to: one number for CRC-32, two for Adler-32."""

SUM_LENGTH = 4
"""Bytes that a checksum takes."""
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31  # the polynomial 1, bits reflected
_MODULUS = 65521
_CHUNK = 1 << 20


class SumKind(enum.StrEnum):
    """A checksum, and how its 4 bytes are written."""

    CRC32 = "crc32"
    """Little-endian, as in gzip, zip and xz."""
    ADLER32 = "adler32"
    """Big-endian, as in zlib."""

    @property
    def numbers(self) -> int:
        """How many numbers a weight has."""
        return 1 if self == SumKind.CRC32 else 2

    def of(self, content: bytes | memoryview) -> bytes:
        """Return the checksum of `content` as it is written."""
        if self == SumKind.CRC32:
            return zlib.crc32(content).to_bytes(4, "little")
        return zlib.adler32(content).to_bytes(4, "big")

    def weight(self, distances: Iterable[int]) -> Weight:
        """Return the weight of places that end that many bytes before the end of what is summed."""
        if self == SumKind.ADLER32:
            known = tuple(distances)
            return (len(known), sum(known) % _MODULUS)
        total = 0
        for distance in distances:
            total ^= _power(distance)
        return (total,)

    def changed(self, value: bytes, before: bytes, after: bytes, weight: Weight) -> bytes:
        """Return what `value` becomes when `before` becomes `after` at all places of that weight."""
        if self == SumKind.CRC32:
            change = zlib.crc32(before) ^ zlib.crc32(after)
            return (int.from_bytes(value, "little") ^ _times(change, weight[0])).to_bytes(4, "little")
        count, distance = weight
        number = int.from_bytes(value, "big")
        deltas = [new - old for old, new in zip(before, after, strict=True)]
        inner = sum(delta * (len(deltas) - place) for place, delta in enumerate(deltas))
        low = ((number & 0xFFFF) + count * sum(deltas)) % _MODULUS
        high = ((number >> 16) + distance * sum(deltas) + count * inner) % _MODULUS
        return (high << 16 | low).to_bytes(4, "big")


class DigestKind(enum.StrEnum):
    """A hash of a whole file, as other files spell it."""

    SHA256_HEX = "sha256-hex"
    SHA256_BASE64URL = "sha256-base64url"
    """Without padding: RECORD of an installed Python package."""
    SHA512_HEX = "sha512-hex"
    SHA1_HEX = "sha1-hex"
    MD5_HEX = "md5-hex"
    CRC32_LITTLE = "crc32-little"
    """`.gnu_debuglink` of a little-endian ELF file."""
    CRC32_BIG = "crc32-big"

    @property
    def length(self) -> int:
        """How many bytes it takes."""
        return _LENGTHS[self]


_LENGTHS = {
    DigestKind.SHA256_HEX: 64,
    DigestKind.SHA256_BASE64URL: 43,
    DigestKind.SHA512_HEX: 128,
    DigestKind.SHA1_HEX: 40,
    DigestKind.MD5_HEX: 32,
    DigestKind.CRC32_LITTLE: SUM_LENGTH,
    DigestKind.CRC32_BIG: SUM_LENGTH,
}


def digests(path: Path, kinds: Iterable[DigestKind] = tuple(DigestKind)) -> dict[DigestKind, bytes]:
    """Return the hashes of a file, as they are spelled; raises OSError."""
    wanted = tuple(kinds)
    hashes = {kind.split("-")[0]: None for kind in wanted}
    states = {name: hashlib.new(name, usedforsecurity=False) for name in hashes if name != "crc32"}
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for state in states.values():
                state.update(chunk)
            crc = zlib.crc32(chunk, crc) if "crc32" in hashes else 0
    return {kind: _spell(kind, states, crc) for kind in wanted}


def _spell(kind: DigestKind, states: "dict[str, hashlib._Hash]", crc: int) -> bytes:
    name, form = kind.split("-")
    match form:
        case "little" | "big":
            return crc.to_bytes(4, "little" if form == "little" else "big")
        case "base64url":
            return base64.urlsafe_b64encode(states[name].digest()).rstrip(b"=")
        case _:
            return states[name].hexdigest().encode()


def _times(a: int, b: int) -> int:
    """Return the product of two polynomials modulo that of CRC-32, bits reflected."""
    product, mask = 0, _ONE
    while mask:
        if a & mask:
            product ^= b
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
        mask >>= 1
    return product


def _squares() -> tuple[int, ...]:
    """Return x to the power of 8 times 2^n, for n up to 63."""
    value = _ONE >> 8
    found = [value]
    for _ in range(63):
        value = _times(value, value)
        found.append(value)
    return tuple(found)


def _power(count: int) -> int:
    """Return x to the power of 8 * `count`: what `count` bytes behind a change do to it."""
    value = _ONE
    for place, square in enumerate(_SQUARES):
        if count >> place & 1:
            value = _times(value, square)
    return value


_SQUARES = _squares()
