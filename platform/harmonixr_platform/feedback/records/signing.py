"""Pseudonyms and tokens by HMAC: who answers, for which comparison, until when. Knows no store.

Nothing here can be read back: a rater's key is kept nowhere, and no token tells what it stands for beyond the
comparison's own random id.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from typing import Literal

from harmonixr_platform.feedback.errors import BadToken

AudioSide = Literal["a", "b", "context"]

_SIDES: dict[str, AudioSide] = {"a": "a", "b": "b", "c": "context"}
_AUDIO = re.compile(r"([0-9a-f]{32})([abc])([0-9a-f]{32})")


def erased_name(rater: str) -> str:
    """Return what stands for an erased rater: a hash of the pseudonym, which knowing it alone does not give back."""
    return hashlib.sha256(f"erased:{rater}".encode()).hexdigest()[:32]


class Signer:
    """Makes and checks everything that needs the rater secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def pseudonym(self, rater_key: str) -> str:
        """Return the name under which a rater's answers are kept."""
        return self._mac("rater", rater_key)[:24]

    def token(self, comparison_id: str, rater: str, *, expires: datetime) -> str:
        """Return what the answer to this comparison must bring back."""
        until = int(expires.timestamp())
        return f"{until}.{self._mac('judge', comparison_id, rater, str(until))}"

    def check_token(self, token: str, comparison_id: str, rater: str) -> None:
        """Raise BadToken unless we made this token for this rater and comparison.

        Its age is not judged here: a repeat of a recorded answer is welcome however late.
        """
        until, _, mac = token.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac("judge", comparison_id, rater, until).encode()):
            raise BadToken("the token was not given to this rater for this comparison; send both back unchanged")

    def audio_token(self, comparison_id: str, side: AudioSide) -> str:
        """Return the opaque name of one sound of a comparison."""
        return f"{comparison_id}{side[0]}{self._mac('audio', comparison_id, side[0])[:32]}"

    def read_audio_token(self, token: str) -> tuple[str, AudioSide]:
        """Return the comparison and side that a sound belongs to; raise BadToken."""
        match = _AUDIO.fullmatch(token)
        if not match or not hmac.compare_digest(match[3], self._mac("audio", match[1], match[2])[:32]):
            raise BadToken("this is not the address of a sound that was made here")
        return match[1], _SIDES[match[2]]

    def _mac(self, purpose: str, *parts: str) -> str:
        # Lengths before the parts, so that no two different lists read the same.
        message = "".join(f"{len(part)}:{part}" for part in (purpose, *parts))
        return hmac.new(self._secret, message.encode(), hashlib.sha256).hexdigest()
