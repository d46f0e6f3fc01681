"""Register, find, fetch and promote model versions in an object store.

A version's file is written first and its manifest last, so a version with a manifest is complete. Aliases change by
compare-and-swap: of two simultaneous promotions, the second raises RegistryError.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harmonixr_platform.registry.records import Alias, AliasMove, Lineage, Promotion, RegistryError, Version
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.stores.errors import ConditionFailed, NotFound, StoreUnavailable
from harmonixr_platform.stores.objects import ObjectStore, StoredObject

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings

NAMES = ("infill", "reward")
ALIASES = ("champion", "challenger")
VERSION_DIGITS = 12
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def open_registry(settings: Settings) -> Registry:
    """Return the registry in the settings' object store, with a file cache under state_dir."""
    return Registry(open_object_store(settings), settings.state_dir / "cache" / "registry")


class Registry:
    """Versions and aliases of the models in NAMES."""

    def __init__(self, store: ObjectStore, cache: Path) -> None:
        self._store = store
        self._cache = cache

    def register(self, name: str, file: Path, lineage: Lineage) -> Version:
        """Add a file as a version; the same file again returns the existing version."""
        _check_name(name)
        data = _read(file)
        digest = hashlib.sha256(data).hexdigest()
        version = Version(
            name=name,
            version=digest[:VERSION_DIGITS],
            file=file.name if _FILE.fullmatch(file.name) else f"model{file.suffix}",
            sha256=digest,
            size_bytes=len(data),
            lineage=lineage,
            created=datetime.now(UTC),
        )
        with contextlib.suppress(NotFound):
            return self._version(name, version.version)
        # A file left by an interrupted call has the same bytes or is overwritten here.
        self._store.put(version.key, data)
        with contextlib.suppress(ConditionFailed):
            self._store.put_if_absent(_manifest_key(name, version.version), version.model_dump_json(indent=1).encode())
        return self._version(name, version.version)

    def ensure_shipped(self, file: Path, *, name: str = "infill", lineage: Lineage | None = None) -> Version:
        """Register the packaged weights, and make them champion if there is none yet."""
        version = self.register(name, file, lineage or Lineage(note="shipped with the package"))
        if self.alias(name, "champion") is None:
            with contextlib.suppress(RegistryError):
                self.set_alias(name, "champion", version.version, expected=None, reason="shipped with the package")
        return version

    def versions(self, name: str) -> tuple[Version, ...]:
        """Return all versions of a model, oldest first."""
        _check_name(name)
        keys = [k for k in self._store.list(f"registry/{name}/") if k.endswith("/manifest.json")]
        found = [Version.model_validate_json(self._store.get(key).data) for key in keys]
        return tuple(sorted(found, key=lambda version: (version.created, version.version)))

    def resolve(self, name: str, reference: str = "champion") -> Version:
        """Return the version for an alias, a version id or the unique beginning of one (4 digits or more)."""
        _check_name(name)
        if reference in ALIASES:
            alias = self.alias(name, reference)
            if alias is None:
                raise RegistryError(f"no {name} model is {reference} yet; {self._choices(name)}")
            return self._version(name, alias.version)
        if re.fullmatch(r"[0-9a-f]{4,64}", reference):
            known = {key.split("/")[2] for key in self._store.list(f"registry/{name}/{reference[:VERSION_DIGITS]}")}
            if len(known) > 1:
                raise RegistryError(f"{reference!r} matches several {name} versions; give more digits")
            with contextlib.suppress(NotFound):
                version = self._version(name, known.pop()) if known else None
                if version and version.sha256.startswith(reference):
                    return version
        raise RegistryError(f"there is no {name} model {reference!r}; {self._choices(name)}")

    def fetch(self, version: Version) -> Path:
        """Return a local copy of the version's file, checked against its SHA-256; raise StoreUnavailable."""
        path = self._cache / version.name / version.version / version.file
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == version.sha256:
            return path
        data = self._store.get(version.key).data
        if hashlib.sha256(data).hexdigest() != version.sha256:
            raise StoreUnavailable(
                f"{version.name} {version.version} is damaged in the object store; register it again"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        draft.write_bytes(data)
        os.replace(draft, path)
        return path

    def alias(self, name: str, alias: str) -> Alias | None:
        """Return the alias with its history; None if it was never set."""
        held = self._alias(name, alias)
        return held[0] if held else None

    def set_alias(self, name: str, alias: str, version: str, *, expected: str | None, reason: str = "") -> Alias:
        """Point the alias at a version; `expected` is its present version (None: unset).

        Raises RegistryError if the present version differs, so that no change is overwritten unseen.
        """
        target = self.resolve(name, version).version
        held = self._alias(name, alias)
        current = held[0].version if held else None
        if current != expected:
            raise _moved(name, alias, current)
        if held and current == target:
            return held[0]
        stack = (*held[0].stack, target) if held else (target,)
        return self._move(name, alias, held, stack, reason)

    def promote(self, name: str, version: str, *, alias: str = "champion", reason: str = "") -> Alias:
        """Point the alias at a version, without checking its present version."""
        current = self.alias(name, alias)
        return self.set_alias(name, alias, version, expected=current.version if current else None, reason=reason)

    def decide(self, promotion: Promotion) -> Alias | None:
        """Store a decision and apply it: a promotion moves the alias.

        Raises RegistryError if the alias no longer names the champion that was measured. The decision stays stored and
        the alias does not move.
        """
        key = f"{_promotions(promotion.name)}{promotion.promotion_id}.json"
        with contextlib.suppress(ConditionFailed):
            self._store.put_if_absent(key, promotion.model_dump_json().encode())
        if not promotion.promoted:
            return None
        return self.set_alias(
            promotion.name,
            promotion.alias,
            promotion.version,
            expected=promotion.champion,
            reason=f"promotion {promotion.promotion_id}",
        )

    def promotions(self, name: str) -> tuple[Promotion, ...]:
        """Return all decisions of the promotion gate about a model, oldest first."""
        _check_name(name)
        found = [
            Promotion.model_validate_json(self._store.get(key).data) for key in self._store.list(_promotions(name))
        ]
        return tuple(sorted(found, key=lambda promotion: promotion.decided))

    def rollback(self, name: str, alias: str = "champion", *, reason: str = "rollback") -> Alias:
        """Point the alias back at its previous version."""
        held = self._alias(name, alias)
        if held is None or len(held[0].stack) < 2:
            raise RegistryError(f"{name} {alias} has no earlier version to go back to; promote one instead")
        return self._move(name, alias, held, held[0].stack[:-1], reason)

    def _move(
        self, name: str, alias: str, held: tuple[Alias, StoredObject] | None, stack: tuple[str, ...], reason: str
    ) -> Alias:
        history = held[0].history if held else ()
        # The history grows with every move, so no two states of an alias have equal bytes (A, B, A).
        move = AliasMove(version=stack[-1], reason=reason, at=datetime.now(UTC))
        moved = Alias(name=name, alias=alias, stack=stack, history=(*history, move))
        data, key = moved.model_dump_json(indent=1).encode(), _alias_key(name, alias)
        try:
            if held:
                self._store.compare_and_swap(key, data, expected=held[1].version)
            else:
                self._store.put_if_absent(key, data)
        except ConditionFailed:
            now = self.alias(name, alias)
            raise _moved(name, alias, now.version if now else None) from None
        return moved

    def _alias(self, name: str, alias: str) -> tuple[Alias, StoredObject] | None:
        _check_name(name)
        if alias not in ALIASES:
            raise RegistryError(f"{alias!r} is not an alias; use one of {', '.join(ALIASES)}")
        try:
            stored = self._store.get(_alias_key(name, alias))
        except NotFound:
            return None
        return Alias.model_validate_json(stored.data), stored

    def _version(self, name: str, version: str) -> Version:
        return Version.model_validate_json(self._store.get(_manifest_key(name, version)).data)

    def _choices(self, name: str) -> str:
        known = ", ".join(version.version for version in self.versions(name)[-5:])
        return f"the latest versions are {known}" if known else "none is registered; train or register one first"


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise RegistryError(f"{name!r} is not a model of the registry; use one of {', '.join(NAMES)}")


def _read(file: Path) -> bytes:
    data = file.read_bytes()
    if not data:
        raise RegistryError(f"{file} is empty; give a checkpoint")
    return data


def _moved(name: str, alias: str, current: str | None) -> RegistryError:
    return RegistryError(f"{name} {alias} is {current or 'not set'} by now; look at it again before moving it")


def _manifest_key(name: str, version: str) -> str:
    return f"registry/{name}/{version}/manifest.json"


def _promotions(name: str) -> str:
    return f"registry/{name}/promotions/"


def _alias_key(name: str, alias: str) -> str:
    return f"registry/{name}/aliases/{alias}.json"
