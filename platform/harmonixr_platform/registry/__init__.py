"""Immutable model versions and their aliases; `open_registry(settings)` opens the registry."""

from harmonixr_platform.registry.records import Alias, Lineage, Promotion, PromotionCheck, RegistryError, Version
from harmonixr_platform.registry.registry import ALIASES, NAMES, Registry, open_registry
