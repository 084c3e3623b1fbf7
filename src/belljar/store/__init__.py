"""The store: artifacts under names that follow from their inputs."""

from belljar.store.manifest import Manifest, describe
from belljar.store.name import StoreName
from belljar.store.record import Record
from belljar.store.store import Damage, Store, locate

__all__ = ["Damage", "Manifest", "Record", "Store", "StoreName", "describe", "locate"]
