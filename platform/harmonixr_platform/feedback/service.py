"""Everything the HTTP ingress asks of feedback, in plain calls. Knows nothing of HTTP, Ray or models.

Every method blocks on Redis or the object store, a second or two at worst: call them from a thread. Each raises
FeedbackError or StoreError, whose `status` is the HTTP status that fits.
"""

from __future__ import annotations

import base64
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from harmonixr_platform.feedback.errors import FeedbackError, NoConsent, TooMany, UnknownComparison
from harmonixr_platform.feedback.records.evidence import MIN_HEARD, check_listening
from harmonixr_platform.feedback.records.judgments import JudgmentLog
from harmonixr_platform.feedback.records.mover import GROUP
from harmonixr_platform.feedback.records.pairs import PairStore
from harmonixr_platform.feedback.records.pools import PoolStore
from harmonixr_platform.feedback.records.sides import revealed_models, sides
from harmonixr_platform.feedback.records.signing import AudioSide, Signer, erased_name
from harmonixr_platform.feedback.studies.comparisons import could_be_comparison_id, make_comparison
from harmonixr_platform.feedback.studies.pair_view import Shown, show_pair
from harmonixr_platform.feedback.studies.presenter import Next, Presenter
from harmonixr_platform.feedback.studies.rater_limit import RaterLimit
from harmonixr_platform.feedback.studies.scheduler import Option, ScheduledPair
from harmonixr_platform.feedback.studies.store import StudyStore
from harmonixr_platform.schemas import (
    Comparison,
    ComparisonRequest,
    ComparisonView,
    Judgment,
    JudgmentReceipt,
    JudgmentRequest,
    Listening,
    Pair,
    Progress,
    Retraction,
    SideView,
    Tombstone,
)
from harmonixr_platform.stores.connect import open_object_store, open_stream
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.stores.streams import Backlog, RecordStream

if TYPE_CHECKING:
    from harmonixr_platform.settings import Settings

AUDIO_URL = "/v1/audio/{token}"
_SHOWN_PAIRS = 256
# How often a pair is chosen anew when the same rater was shown another meanwhile.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class AudioSource:
    """What to sound for an audio token, and the other sounds of its comparison, which must be as loud."""

    midi: bytes
    start_s: float
    end_s: float
    beside: tuple[bytes, ...]


class FeedbackService:
    """Comparisons, judgments and sounds. `open` is the usual way in; safe to use from several threads."""

    def __init__(
        self,
        stream: RecordStream,
        store: ObjectStore,
        *,
        secret: bytes,
        ttl: timedelta = timedelta(days=1),
        per_minute: int = 0,
        rng: random.Random | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.pairs = PairStore(store)
        self.pools = PoolStore(store)
        self.studies = StudyStore(store)
        self._stream = stream
        self._log = JudgmentLog(stream)
        self._presenter = Presenter(self._log, pools=self.pools, studies=self.studies)
        self._limit = RaterLimit(stream, per_minute=per_minute)
        self._signer = Signer(secret)
        self._ttl = ttl
        self._rng = rng or random.SystemRandom()
        self._now = now
        # Reading three MIDI files takes longer than all the rest, and pools show the same pairs again and again.
        self._shown = lru_cache(_SHOWN_PAIRS)(self._show)

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        rng: random.Random | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> FeedbackService:
        """Return the service on the stores that the settings name; Redis is met (or started) at the first call."""
        return cls(
            open_stream(settings),
            open_object_store(settings),
            secret=settings.rater_key(),
            ttl=timedelta(seconds=settings.comparison_ttl_s),
            per_minute=settings.rater_per_minute,
            rng=rng,
            now=now,
        )

    def create_comparison(self, request: ComparisonRequest, *, own: Pair | None = None) -> ComparisonView:
        """Show a pair of the request's pool, or `own`: two fills just made of the rater's own gap."""
        rater = self._signer.pseudonym(request.rater_key)
        if request.pool is not None:
            self._limit.spend("comparison", rater, now=self._now())
            for _ in range(_TRIES):
                shown = self._presenter.next(request.pool, rater, now=self._now(), rng=self._rng)
                pair = self.pairs.get(shown.chosen.option.pair_id)
                view = self._present(pair, shown, rater, pool=request.pool)
                if view is not None:
                    return view
            raise TooMany("this listener asks for many comparisons at once; ask for one after another")
        if own is None:
            raise FeedbackError("two fills of the caller's gap must be made before they can be compared")
        pair = self.pairs.put(own)
        view = self._present(pair, Next(ScheduledPair(Option(pair.pair_id), 1.0)), rater, pool=None)
        # Only a pool's history can have grown meanwhile.
        assert view is not None
        return view

    def _present(self, pair: Pair, shown: Next, rater: str, *, pool: str | None) -> ComparisonView | None:
        """Record that the rater is shown the pair; None when they have been shown another since it was chosen."""
        comparison = make_comparison(
            pair,
            rater=rater,
            pool=pool,
            propensity=shown.chosen.propensity,
            now=self._now(),
            ttl=self._ttl,
            rng=self._rng,
            study=shown.study,
            arms=shown.arms,
            option=shown.chosen.option,
        )
        view = self._view(pair, comparison, shown.progress)
        a, b = revealed_models(pair, comparison)
        return view if self._log.show(comparison, model_a=a, model_b=b, heard=shown.heard) else None

    def admit(self, rater_key: str) -> None:
        """Count a request for two fills of the rater's own gap, before they are made; raises TooMany."""
        self._limit.spend("comparison", self._signer.pseudonym(rater_key), now=self._now())

    def record_judgment(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Record an answer; when this returns it is on disk. The same request again gives the same receipt."""
        rater, now = self._signer.pseudonym(request.rater_key), self._now()
        self._limit.spend("judgment", rater, now=now)
        comparison = self._comparison(request.comparison_id)
        self._signer.check_token(request.token, comparison.comparison_id, rater)
        self._check_consent(request, comparison)
        judgment = Judgment(
            judgment_id=request.judgment_id,
            comparison_id=comparison.comparison_id,
            pair_id=comparison.pair_id,
            rater=rater,
            choice=request.choice,
            strength=request.strength,
            tags=tuple(sorted(request.tags)),
            comment=request.comment.strip(),
            listening=self._checked(request, comparison, now),
            consent=request.consent,
            simulated=request.simulated,
            received=now,
        )
        recorded = self._log.judge(judgment, comparison)
        return JudgmentReceipt(
            judgment_id=judgment.judgment_id,
            stored=True,
            duplicate=recorded.duplicate,
            model_a=recorded.model_a or None,
            model_b=recorded.model_b or None,
        )

    def retract(self, judgment_id: str, *, rater_key: str, retraction_id: str | None = None) -> bool:
        """Take a judgment back; return whether it had been taken back before. Its comparison is open again."""
        retraction = Retraction(
            retraction_id=retraction_id or secrets.token_hex(16),
            judgment_id=judgment_id,
            rater=self._signer.pseudonym(rater_key),
            received=self._now(),
        )
        return self._log.retract(retraction).duplicate

    def erase(self, rater_key: str) -> None:
        """Make readers drop everything this rater ever said, and take nothing more from them.

        What is stored of them goes when `harmonixr feedback erase` runs.
        """
        rater = self._signer.pseudonym(rater_key)
        self._limit.spend("judgment", rater, now=self._now())
        name = erased_name(rater)
        self._log.append(Tombstone(tombstone_id=name, rater=name, received=self._now()))

    def audio(self, token: str) -> AudioSource:
        """Return what to sound for a token of a view; raises BadToken, UnknownComparison."""
        comparison_id, side = self._signer.read_audio_token(token)
        comparison = self._log.comparison(comparison_id)
        pair = self.pairs.get(comparison.pair_id)
        shown = self._shown(pair.pair_id)
        a, b = sides(pair, comparison)
        sounds = {
            "a": base64.b64decode(a.midi_base64),
            "b": base64.b64decode(b.midi_base64),
            "context": shown.context,
        }
        midi = sounds.pop(side)
        return AudioSource(midi, shown.excerpt.audio_start_s, shown.excerpt.audio_end_s, tuple(sounds.values()))

    def backlog(self) -> Backlog:
        """Return how many records wait to be moved to objects, and for how long."""
        return self._stream.backlog(GROUP)

    def durability_faults(self) -> list[str]:
        """Return what about Redis could lose answered judgments."""
        return self._stream.durability_faults()

    def close(self) -> None:
        """Close the connections; stops an embedded Redis that this service started."""
        self._stream.close()

    def _check_consent(self, request: JudgmentRequest, comparison: Comparison) -> None:
        """Raise NoConsent where a person answers a study without it. What is refused is not stored."""
        if request.simulated or comparison.study is None or comparison.pool is None:
            return
        if request.consent is None:
            raise NoConsent(
                "this study takes answers of people only with their consent; send the version they agreed to"
            )
        wanted = self._presenter.consent_of(comparison.pool)
        if wanted is not None and request.consent.version != wanted:
            raise NoConsent(
                f"this study asks for consent to version {wanted} of its wording, not {request.consent.version}; "
                "show that one"
            )

    def _checked(self, request: JudgmentRequest, comparison: Comparison, now: datetime) -> Listening:
        """Return the listening evidence as checked. A program hears nothing: what it says stands as it says it."""
        if request.simulated:
            return request.listening
        gap = self._shown(comparison.pair_id).excerpt
        return check_listening(
            request.listening,
            request.choice,
            start_s=gap.start_s,
            end_s=gap.end_s,
            since_shown_s=(now - comparison.created).total_seconds(),
            min_heard=MIN_HEARD,
        )

    def _comparison(self, comparison_id: str) -> Comparison:
        if not could_be_comparison_id(comparison_id):
            raise UnknownComparison(f"there is no comparison {comparison_id[:64]!r}; ask for a new one")
        return self._log.comparison(comparison_id)

    def _view(self, pair: Pair, comparison: Comparison, progress: Progress | None) -> ComparisonView:
        shown = self._shown(pair.pair_id)
        a, b = sides(pair, comparison)
        notes_a, notes_b = (shown.second, shown.first) if comparison.swapped else (shown.first, shown.second)
        return ComparisonView(
            comparison_id=comparison.comparison_id,
            token=self._signer.token(comparison.comparison_id, comparison.rater, expires=comparison.expires),
            expires=comparison.expires,
            context_base64=base64.b64encode(shown.context).decode(),
            context_audio_url=self._audio_url(comparison, "context"),
            start_s=shown.excerpt.start_s,
            end_s=shown.excerpt.end_s,
            audio_start_s=shown.excerpt.audio_start_s,
            audio_end_s=shown.excerpt.audio_end_s,
            min_heard=MIN_HEARD,
            progress=progress,
            region=pair.region,
            a=SideView(midi_base64=a.midi_base64, notes=notes_a, audio_url=self._audio_url(comparison, "a")),
            b=SideView(midi_base64=b.midi_base64, notes=notes_b, audio_url=self._audio_url(comparison, "b")),
        )

    def _show(self, pair_id: str) -> Shown:
        return show_pair(self.pairs.get(pair_id))

    def _audio_url(self, comparison: Comparison, side: AudioSide) -> str:
        return AUDIO_URL.format(token=self._signer.audio_token(comparison.comparison_id, side))
