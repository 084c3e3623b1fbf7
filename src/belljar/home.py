"""Where belljar keeps its state.

$BELLJAR_HOME, else $XDG_DATA_HOME/belljar      what must not be lost
    store/      the store: a location (belljar.placeholder), with its artifacts
    roots/      root filesystems for `belljar verify`
    staging/    work in progress; on the same filesystem as the store, so that it can be renamed in
    logs/       the output of builds
$BELLJAR_HOME/cache, else $XDG_CACHE_HOME/belljar    what can be fetched or made again
    downloads/  files by content hash
    environments/  unpacked sandbox roots by content hash
    apt/        private state of apt, one directory a suite
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from belljar.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The two directories that hold all state: `data` and `cache`."""

    data: Path
    cache: Path

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Home":
        """Find the directories as $BELLJAR_HOME, $XDG_DATA_HOME, $XDG_CACHE_HOME and $HOME say.

        Raises UsageError when none of them names an absolute path.
        """
        if home := env.get("BELLJAR_HOME"):
            data = Path(home).absolute()
            return cls(data=Path(os.path.normpath(data)), cache=Path(os.path.normpath(data / "cache")))
        nowhere = Path("/nonexistent")
        user = Path(env.get("HOME") or nowhere)
        data = Path(env.get("XDG_DATA_HOME") or user / ".local/share")
        cache = Path(env.get("XDG_CACHE_HOME") or user / ".cache")
        if not all(path.is_absolute() and nowhere not in path.parents for path in (data, cache)):
            raise UsageError("no directory for belljar's state", hint="set BELLJAR_HOME to an absolute path")
        return cls(data=data / "belljar", cache=cache / "belljar")

    @property
    def store(self) -> Path:
        """The directory of the store's location."""
        return self.data / "store"

    @property
    def roots(self) -> Path:
        """Root filesystems by name."""
        return self.data / "roots"

    @property
    def staging(self) -> Path:
        """Work in progress."""
        return self.data / "staging"

    @property
    def logs(self) -> Path:
        """Build logs."""
        return self.data / "logs"

    @property
    def downloads(self) -> Path:
        """Fetched files, `<sha256>-<name>`."""
        return self.cache / "downloads"

    @property
    def environments(self) -> Path:
        """Unpacked sandbox roots by content hash."""
        return self.cache / "environments"

    @property
    def apt(self) -> Path:
        """Private state of apt."""
        return self.cache / "apt"
