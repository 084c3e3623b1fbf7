"""The kinds of failure, each with its exit status.

An exception means that no verdict was possible. Findings, differences and outcomes are values.
A message reads `subject: what went wrong`; a hint says what the user can do about it.
"""


class BelljarError(Exception):
    """A failure that belljar can explain; carries a message, an optional hint and an exit status."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NegativeVerdict(BelljarError):  # noqa: N818 - not an error: everything ran, the answer is no
    """The work was done and its result does not meet what was declared."""

    exit_code = 1


class UsageError(BelljarError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class InputError(BelljarError):
    """A file, a recipe or an archive that was given is not what it should be."""

    exit_code = 3


class HostError(BelljarError):
    """The machine cannot do what is needed: no user namespaces, no space, a missing program."""

    exit_code = 4


class BuildError(BelljarError):
    """The build script failed; `log` is the path of its whole output, `tail` its last lines."""

    exit_code = 5

    def __init__(self, message: str, *, log: str, tail: tuple[str, ...], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.log = log
        self.tail = tail


class IntegrityError(BelljarError):
    """Bytes are not those that a hash or a signature promised."""

    exit_code = 6


class RemoteError(BelljarError):
    """Something across the network failed: a mirror, a registry, an engine."""

    exit_code = 7
