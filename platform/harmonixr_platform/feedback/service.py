"""All feedback operations of the HTTP ingress as plain calls: comparisons, judgments, retractions, erasure, audio.

Every method blocks on Redis or the object store, up to a second or two: call it from a thread. Each method may raise
FeedbackError or StoreError, whose `status` is the HTTP status.
"""

from __future__ import annotations

import base64
import random
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
from harmonixr_platform.feedback.studies.pair_view import PairView, view_pair
from harmonixr_platform.feedback.studies.presenter import NextPair, Presenter, make_comparison
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
    RaterProgress,
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
_COMPARISON_ID = re.compile(r"[0-9a-f]{32}")
_CACHED_VIEWS = 256
# Attempts to choose a pair while the same rater is shown others at the same time.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class AudioSource:
    """The MIDI file and excerpt of an audio token, and the other two files of its comparison for loudness matching."""

    midi: bytes
    start_s: float
    end_s: float
    beside: tuple[bytes, ...]


class FeedbackService:
    """Comparisons, judgments and audio. Thread-safe; `open` creates it from the settings."""

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
        # Parsing three MIDI files takes most of a request's time, and the pairs of a pool are shown many times.
        self._pair_view = lru_cache(_CACHED_VIEWS)(self._read_pair_view)

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        rng: random.Random | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> FeedbackService:
        """Return the service on the settings' stores; the first call connects to Redis or starts it."""
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
        """Show a pair of the requested pool, or `own`: two new fills of the rater's own gap."""
        rater = self._signer.pseudonym(request.rater_key)
        if request.pool is not None:
            self._limit.spend("comparison", rater, now=self._now())
            for _ in range(_TRIES):
                next_pair = self._presenter.next(request.pool, rater, now=self._now(), rng=self._rng)
                view = self._show(next_pair, rater, pool=request.pool)
                if view is not None:
                    return view
            raise TooMany("this listener requests many comparisons at once; request one after another")
        if own is None:
            raise FeedbackError("two fills of the caller's gap must be made before they can be compared")
        pair = self.pairs.put(own)
        view = self._show(NextPair(ScheduledPair(Option(pair.pair_id), 1.0)), rater, pool=None)
        # Only the history of a pool can have changed.
        assert view is not None
        return view

    def _show(self, next_pair: NextPair, rater: str, *, pool: str | None) -> ComparisonView | None:
        """Record the presentation of a pair; return None if the rater's history has changed since it was chosen."""
        pair = self.pairs.get(next_pair.scheduled.option.pair_id)
        comparison = make_comparison(
            next_pair.scheduled,
            rater=rater,
            pool=pool,
            now=self._now(),
            ttl=self._ttl,
            rng=self._rng,
            study=next_pair.study,
            arms=next_pair.arms,
        )
        view = self._view(pair, comparison, next_pair.progress)
        a, b = revealed_models(pair, comparison)
        recorded = self._log.show(comparison, model_a=a, model_b=b, presentations=next_pair.presentations)
        return view if recorded else None

    def admit(self, rater_key: str) -> None:
        """Count a request for two fills of the rater's own gap before they are made; raises TooMany."""
        self._limit.spend("comparison", self._signer.pseudonym(rater_key), now=self._now())

    def record_judgment(self, request: JudgmentRequest) -> JudgmentReceipt:
        """Record a judgment; it is on disk when this returns. The same request again returns the same receipt."""
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
            listening=self._checked_listening(request, comparison, now),
            consent=request.consent,
            simulated=request.simulated,
            received=now,
        )
        result = self._log.judge(judgment, comparison)
        return JudgmentReceipt(
            judgment_id=judgment.judgment_id,
            stored=True,
            duplicate=result.duplicate,
            model_a=result.model_a or None,
            model_b=result.model_b or None,
        )

    def retract(self, judgment_id: str, *, rater_key: str, retraction_id: str | None = None) -> bool:
        """Retract a judgment and reopen its comparison; return whether it had been retracted before."""
        retraction = Retraction(
            retraction_id=retraction_id or secrets.token_hex(16),
            judgment_id=judgment_id,
            rater=self._signer.pseudonym(rater_key),
            received=self._now(),
        )
        return self._log.retract(retraction).duplicate

    def erase(self, rater_key: str) -> None:
        """Exclude all records of a rater from reading and accept no more from them.

        `harmonixr feedback erase` deletes the stored records.
        """
        rater = self._signer.pseudonym(rater_key)
        self._limit.spend("judgment", rater, now=self._now())
        name = erased_name(rater)
        self._log.append(Tombstone(tombstone_id=name, rater=name, received=self._now()))

    def audio(self, token: str) -> AudioSource:
        """Return the audio source of a view's token; raises BadToken, UnknownComparison."""
        comparison_id, side = self._signer.read_audio_token(token)
        comparison = self._log.comparison(comparison_id)
        pair = self.pairs.get(comparison.pair_id)
        pair_view = self._pair_view(pair.pair_id)
        a, b = sides(pair, comparison)
        sources = {
            "a": base64.b64decode(a.midi_base64),
            "b": base64.b64decode(b.midi_base64),
            "context": pair_view.context,
        }
        midi = sources.pop(side)
        excerpt = pair_view.excerpt
        return AudioSource(midi, excerpt.audio_start_s, excerpt.audio_end_s, tuple(sources.values()))

    def backlog(self) -> Backlog:
        """Return the records that wait to be moved to the object store."""
        return self._stream.backlog(GROUP)

    def durability_faults(self) -> list[str]:
        """Return one sentence for each Redis setting that could lose acknowledged judgments."""
        return self._stream.durability_faults()

    def close(self) -> None:
        """Close the connections; stop an embedded Redis that this service started."""
        self._stream.close()

    def _check_consent(self, request: JudgmentRequest, comparison: Comparison) -> None:
        """Raise NoConsent for a person's judgment in a study without the required consent; it is not stored."""
        if request.simulated or comparison.study is None or comparison.pool is None:
            return
        if request.consent is None:
            raise NoConsent(
                "this study accepts judgments of people only with their consent; send the version that they agreed to"
            )
        required = self._presenter.consent_version(comparison.pool)
        if required is not None and request.consent.version != required:
            raise NoConsent(
                f"this study requires consent to version {required} of its wording, not {request.consent.version}; "
                "show that version"
            )

    def _checked_listening(self, request: JudgmentRequest, comparison: Comparison, now: datetime) -> Listening:
        """Return the checked listening evidence; a program's evidence is returned unchanged."""
        if request.simulated:
            return request.listening
        excerpt = self._pair_view(comparison.pair_id).excerpt
        return check_listening(
            request.listening,
            request.choice,
            start_s=excerpt.start_s,
            end_s=excerpt.end_s,
            since_shown_s=(now - comparison.created).total_seconds(),
            min_heard=MIN_HEARD,
        )

    def _comparison(self, comparison_id: str) -> Comparison:
        if not _COMPARISON_ID.fullmatch(comparison_id):
            raise UnknownComparison(f"there is no comparison {comparison_id[:64]!r}; request a new one")
        return self._log.comparison(comparison_id)

    def _view(self, pair: Pair, comparison: Comparison, progress: RaterProgress | None) -> ComparisonView:
        pair_view = self._pair_view(pair.pair_id)
        a, b = sides(pair, comparison)
        notes = (pair_view.first, pair_view.second)
        notes_a, notes_b = reversed(notes) if comparison.swapped else notes
        return ComparisonView(
            comparison_id=comparison.comparison_id,
            token=self._signer.token(comparison.comparison_id, comparison.rater, expires=comparison.expires),
            expires=comparison.expires,
            context_base64=base64.b64encode(pair_view.context).decode(),
            context_audio_url=self._audio_url(comparison, "context"),
            **asdict(pair_view.excerpt),
            min_heard=MIN_HEARD,
            progress=progress,
            region=pair.region,
            a=SideView(midi_base64=a.midi_base64, notes=notes_a, audio_url=self._audio_url(comparison, "a")),
            b=SideView(midi_base64=b.midi_base64, notes=notes_b, audio_url=self._audio_url(comparison, "b")),
        )

    def _read_pair_view(self, pair_id: str) -> PairView:
        return view_pair(self.pairs.get(pair_id))

    def _audio_url(self, comparison: Comparison, side: AudioSide) -> str:
        return AUDIO_URL.format(token=self._signer.audio_token(comparison.comparison_id, side))
