"""Model versions that never change, and the aliases that do.

`open_registry(settings)` is the usual way in. Knows nothing of what a model computes.
"""

from harmonixr_platform.registry.records import Alias, Check, Lineage, Promotion, RegistryError, Version
from harmonixr_platform.registry.registry import ALIASES, NAMES, Registry, open_registry

__all__ = [
    "ALIASES",
    "NAMES",
    "Alias",
    "Check",
    "Lineage",
    "Promotion",
    "Registry",
    "RegistryError",
    "Version",
    "open_registry",
]
