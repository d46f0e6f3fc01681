"""Versions never change; aliases move one at a time and can go back."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harmonixr_platform.registry import Lineage, Registry, RegistryError, Version, open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.errors import StoreUnavailable
from harmonixr_platform.stores.files import FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "objects")


@pytest.fixture
def registry(store: FileStore, tmp_path: Path) -> Registry:
    return Registry(store, tmp_path / "cache")


def _register(registry: Registry, tmp_path: Path, content: bytes, **lineage: object) -> Version:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    return registry.register("infill", file, Lineage(**lineage))  # type: ignore[arg-type]


def test_a_version_is_found_by_its_number_its_beginning_and_its_hash(registry: Registry, tmp_path: Path) -> None:
    made = _register(registry, tmp_path, b"weights", metrics={"bits": 3.1}, code="abc")
    assert registry.resolve("infill", made.version) == made
    assert registry.resolve("infill", made.version[:4]) == made
    assert registry.resolve("infill", made.sha256) == made
    assert made.lineage.metrics == {"bits": 3.1}
    assert registry.versions("infill") == (made,)


def test_the_same_file_again_is_the_same_version_with_its_first_lineage(registry: Registry, tmp_path: Path) -> None:
    first = _register(registry, tmp_path, b"weights", note="first")
    assert _register(registry, tmp_path, b"weights", note="second") == first


def test_a_fetched_file_is_checked_and_a_damaged_cache_is_fetched_again(registry: Registry, tmp_path: Path) -> None:
    made = _register(registry, tmp_path, b"weights")
    path = registry.fetch(made)
    assert path.read_bytes() == b"weights"
    path.write_bytes(b"rotten")
    assert registry.fetch(made).read_bytes() == b"weights"


def test_a_file_damaged_in_the_store_is_refused(registry: Registry, store: FileStore, tmp_path: Path) -> None:
    made = _register(registry, tmp_path, b"weights")
    store.put(made.key, b"rotten")
    with pytest.raises(StoreUnavailable, match="damaged"):
        registry.fetch(made)


@pytest.mark.parametrize("reference", ["champion", "00000000", "no-such", "abc"])
def test_an_unknown_name_error_lists_the_known_names(registry: Registry, tmp_path: Path, reference: str) -> None:
    made = _register(registry, tmp_path, b"weights")
    with pytest.raises(RegistryError, match=made.version):
        registry.resolve("infill", reference)


def test_an_empty_registry_error_names_the_remedy(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="register one first"):
        registry.resolve("infill", "champion")
    with pytest.raises(RegistryError, match="use one of infill, reward"):
        registry.versions("piano")


def test_promote_and_rollback_walk_the_stack_and_keep_the_history(registry: Registry, tmp_path: Path) -> None:
    a, b, c = (_register(registry, tmp_path, content) for content in (b"a", b"b", b"c"))
    for version in (a, b, c):
        registry.promote("infill", version.version, reason="gate passed")
    assert registry.resolve("infill", "champion") == c
    assert registry.rollback("infill").version == b.version
    assert registry.rollback("infill").version == a.version
    with pytest.raises(RegistryError, match="no earlier version"):
        registry.rollback("infill")
    alias = registry.alias("infill", "champion")
    assert alias
    assert [move.version for move in alias.history] == [v.version for v in (a, b, c, b, a)]


def test_an_alias_is_not_moved_over_a_change_the_caller_has_not_seen(registry: Registry, tmp_path: Path) -> None:
    a, b = (_register(registry, tmp_path, content) for content in (b"a", b"b"))
    registry.set_alias("infill", "champion", a.version, expected=None)
    with pytest.raises(RegistryError, match=f"is {a.version} by now"):
        registry.set_alias("infill", "champion", b.version, expected=None)
    registry.set_alias("infill", "champion", b.version, expected=a.version)
    assert registry.resolve("infill").version == b.version


def test_an_alias_points_to_existing_versions_only(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="there is no infill model"):
        registry.promote("infill", "0123456789ab")
    assert registry.alias("infill", "champion") is None


def test_of_many_promoting_from_the_same_state_one_succeeds(registry: Registry, tmp_path: Path) -> None:
    base = _register(registry, tmp_path, b"base")
    others = [_register(registry, tmp_path, b"%d" % i) for i in range(6)]
    registry.promote("infill", base.version)
    barrier = threading.Barrier(len(others))

    def promote(version: Version) -> bool:
        barrier.wait()
        try:
            registry.set_alias("infill", "champion", version.version, expected=base.version)
        except RegistryError:
            return False
        return True

    with ThreadPoolExecutor(len(others)) as pool:
        won = [version for version, ok in zip(others, pool.map(promote, others), strict=True) if ok]
    assert [version.version for version in won] == [registry.resolve("infill").version]


def test_shipped_weights_become_champion_once_and_never_displace_another(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "shipped.safetensors"
    file.write_bytes(b"shipped")
    shipped = registry.ensure_shipped(file)
    assert registry.resolve("infill") == shipped
    better = _register(registry, tmp_path, b"better")
    registry.promote("infill", better.version)
    assert registry.ensure_shipped(file) == shipped
    assert registry.resolve("infill") == better


def test_settings_open_the_registry_of_their_state_dir(tmp_path: Path) -> None:
    made = _register(open_registry(Settings(state_dir=tmp_path / "state")), tmp_path, b"weights")
    again = open_registry(Settings(state_dir=tmp_path / "state"))
    assert again.fetch(again.resolve("infill", made.version)).read_bytes() == b"weights"
