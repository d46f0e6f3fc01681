"""The split of a piece, by a hash of its piece_id."""

from __future__ import annotations

import hashlib

VALID_SHARE, TEST_SHARE = 0.05, 0.05


def hashed_share(piece_id: str) -> float:
    """Return a number in [0, 1) that depends on the piece_id alone."""
    return int.from_bytes(hashlib.sha256(piece_id.encode()).digest()[:8], "big") / 2**64


def split_of(piece_id: str) -> str:
    """Return train, valid or test; near-duplicates share a piece_id, so they share a split."""
    share = hashed_share(piece_id)
    if share < TEST_SHARE:
        return "test"
    return "valid" if share < TEST_SHARE + VALID_SHARE else "train"


def split_of_given(given: str, piece_id: str) -> str:
    """Return the split for a manifest that has only train and valid: half of its valid becomes test."""
    if given != "valid":
        return given
    return "test" if hashed_share(piece_id) < 0.5 else "valid"
