"""A locale that sorts, formats and names months like no other, compiled by the machine's localedef(1).

A system mostly has C.UTF-8 alone, by which nothing would vary. Packages of locales are large; one that is
made of ASCII alone needs no character map but localedef's own.
"""

from pathlib import Path

from belljar import proc

SOURCE = Path(__file__).parent / "varied.locale"


def compile_into(directory: Path, name: str) -> bool:
    """Compile the locale `name` into a directory, which is made; False where that cannot be done here."""
    if proc.find("localedef") is None:
        return False
    directory.mkdir()
    # Categories that it does not define are taken from the POSIX locale, with a warning each, and status 1.
    proc.run(["localedef", "-c", "-i", SOURCE, directory / name], timeout=60)
    return (directory / name / "LC_COLLATE").exists()
