"""What every ObjectStore promises, tried on each of them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.stores.errors import ConditionFailed, NotFound, StoreError
from harmonixr_platform.stores.objects import ObjectStore, probe_conditions


def test_an_object_reads_back_as_written_with_the_version_that_the_write_returned(store: ObjectStore) -> None:
    version = store.put("a/b.json", b"\x00one")
    stored = store.get("a/b.json")
    assert (stored.data, stored.version) == (b"\x00one", version)


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty").data == b""


def test_put_replaces_and_changes_the_version(store: ObjectStore) -> None:
    first = store.put("key", b"one")
    second = store.put("key", b"two")
    assert first != second
    assert store.get("key").data == b"two"


def test_reading_a_key_that_does_not_exist_names_it(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match="nothing/here"):
        store.get("nothing/here")


def test_list_gives_the_keys_under_a_prefix_sorted(store: ObjectStore) -> None:
    for key in ("b/2", "b/1", "b1", "a/x/y"):
        store.put(key, b".")
    assert store.list("b") == ("b/1", "b/2", "b1")
    assert store.list("b/") == ("b/1", "b/2")
    assert store.list("b/1") == ("b/1",)
    assert store.list() == ("a/x/y", "b/1", "b/2", "b1")
    assert store.list("none/") == ()


def test_delete_removes_and_may_be_repeated(store: ObjectStore) -> None:
    store.put("key", b"one")
    store.delete("key")
    store.delete("key")
    assert store.list() == ()
    with pytest.raises(NotFound):
        store.get("key")


def test_put_if_absent_keeps_an_existing_object(store: ObjectStore) -> None:
    version = store.put_if_absent("key", b"one")
    with pytest.raises(ConditionFailed):
        store.put_if_absent("key", b"two")
    assert store.get("key").version == version
    assert store.get("key").data == b"one"


def test_put_if_absent_works_again_after_delete(store: ObjectStore) -> None:
    store.put_if_absent("key", b"one")
    store.delete("key")
    store.put_if_absent("key", b"two")
    assert store.get("key").data == b"two"


def test_compare_and_swap_writes_over_the_expected_version_only(store: ObjectStore) -> None:
    first = store.put("key", b"one")
    second = store.compare_and_swap("key", b"two", expected=first)
    with pytest.raises(ConditionFailed):
        store.compare_and_swap("key", b"three", expected=first)
    assert store.get("key").data == b"two"
    assert store.get("key").version == second


def test_compare_and_swap_of_a_missing_key_is_refused(store: ObjectStore) -> None:
    with pytest.raises(ConditionFailed):
        store.compare_and_swap("key", b"one", expected="0" * 32)
    assert store.list() == ()


def test_of_many_racing_put_if_absent_one_wins(store: ObjectStore) -> None:
    winners = _race(lambda i: store.put_if_absent("key", b"%d" % i))
    assert len(winners) == 1
    assert store.get("key").data == b"%d" % winners[0]


def test_of_many_racing_compare_and_swap_one_wins(store: ObjectStore) -> None:
    version = store.put("key", b"start")
    winners = _race(lambda i: store.compare_and_swap("key", b"%d" % i, expected=version))
    assert len(winners) == 1
    assert store.get("key").data == b"%d" % winners[0]


def test_no_increment_is_lost_when_writers_read_compare_and_swap(store: ObjectStore) -> None:
    store.put("count", b"0")

    def increment(_: int) -> str:
        while True:
            held = store.get("count")
            try:
                return store.compare_and_swap("count", b"%d" % (int(held.data) + 1), expected=held.version)
            except ConditionFailed:
                continue

    _race(increment, writers=6)
    assert store.get("count").data == b"6"


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a b", "a\\b", "ä"])
def test_a_key_that_some_store_could_not_hold_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(StoreError, match="cannot be a key"):
        store.put(key, b"")


def test_the_probe_accepts_conditional_writes_and_leaves_no_object(store: ObjectStore) -> None:
    probe_conditions(store)
    assert store.list() == ()


def test_store_errors_are_sentences_for_the_command_line() -> None:
    assert issubclass(StoreError, HarmonixrError)


def _race(write: object, *, writers: int = 8) -> list[int]:
    """Let several threads write at once; return those that were not refused."""
    barrier = threading.Barrier(writers)

    def attempt(i: int) -> bool:
        barrier.wait()
        try:
            write(i)  # type: ignore[operator]
        except ConditionFailed:
            return False
        return True

    with ThreadPoolExecutor(writers) as pool:
        won = list(pool.map(attempt, range(writers)))
    return [i for i, ok in enumerate(won) if ok]
