"""One instruction of a file: which function it is in, what it says, what it needs."""

from dataclasses import dataclass

from belljar.audit.isa.examine import machine_of
from belljar.elf import Elf


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An instruction; `needs` is its level or its features, "" for what every CPU has."""

    address: int
    function: str
    instruction: str
    needs: str


def site_at(data: bytes, elf: Elf, offset: int) -> Site | None:
    """Describe the instruction at an offset of an x86-64 or aarch64 file; None where no code is."""
    machine = machine_of(data, elf)
    if machine is None:
        return None
    image = machine.image
    segment = next((item for item in image.executable if 0 <= offset - item.offset < item.file_size), None)
    if segment is None:
        return None
    address = offset - segment.offset + segment.address
    bits = dict(machine.block(address).needs).get(address, 0)
    levels = [name for name, mask in machine.levels if bits & mask]
    features = [name for name, bit in machine.extensions() if bits & bit]
    inside = image.functions.find(address)
    return Site(
        address=address,
        function=image.name_of(image.functions.starts[inside]) if inside >= 0 else "",
        instruction=machine.text(address),
        needs=" ".join(levels[-1:] + features),
    )
