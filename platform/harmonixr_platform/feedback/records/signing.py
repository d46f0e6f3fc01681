"""Pseudonyms of raters, and signed tokens for judgments and audio, by HMAC.

A rater's key is stored nowhere. A token reveals nothing but the comparison's random id.
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
    """Return the id of an erased rater: a hash from which the pseudonym cannot be computed."""
    return hashlib.sha256(f"erased:{rater}".encode()).hexdigest()[:32]


class Signer:
    """Makes and checks everything that needs the rater secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def pseudonym(self, rater_key: str) -> str:
        """Return the pseudonym under which a rater's records are stored."""
        return self._mac("rater", rater_key)[:24]

    def token(self, comparison_id: str, rater: str, *, expires: datetime) -> str:
        """Return the token that a judgment of this comparison must contain."""
        until = int(expires.timestamp())
        return f"{until}.{self._mac('judge', comparison_id, rater, str(until))}"

    def check_token(self, token: str, comparison_id: str, rater: str) -> None:
        """Raise BadToken unless this token was made for this rater and comparison.

        Expiry is not checked here: a repeated judgment that is recorded already is accepted at any time.
        """
        until, _, mac = token.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac("judge", comparison_id, rater, until).encode()):
            raise BadToken("the token was not issued to this rater for this comparison; send both unchanged")

    def audio_token(self, comparison_id: str, side: AudioSide) -> str:
        """Return the token of one audio excerpt of a comparison."""
        return f"{comparison_id}{side[0]}{self._mac('audio', comparison_id, side[0])[:32]}"

    def read_audio_token(self, token: str) -> tuple[str, AudioSide]:
        """Return the comparison and side of an audio token; raise BadToken."""
        match = _AUDIO.fullmatch(token)
        if not match or not hmac.compare_digest(match[3], self._mac("audio", match[1], match[2])[:32]):
            raise BadToken("this audio token was not issued by this service")
        return match[1], _SIDES[match[2]]

    def _mac(self, purpose: str, *parts: str) -> str:
        # With the length before each part, no two different lists give the same message.
        message = "".join(f"{len(part)}:{part}" for part in (purpose, *parts))
        return hmac.new(self._secret, message.encode(), hashlib.sha256).hexdigest()
