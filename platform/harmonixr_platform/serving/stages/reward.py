"""The Reward stage: rank fills by a reward model, for `best_of`. Optional; loads nothing before its first call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harmonixr_model.fill.session import FillSession
from harmonixr_platform.registry import Registry, RegistryError, Version, open_registry
from harmonixr_platform.schemas import InfillOptions
from harmonixr_platform.serving.arguments import RewardConfig, ServingArgs
from harmonixr_platform.serving.errors import NoRewardModel
from harmonixr_platform.serving.infill.session_cache import open_session
from harmonixr_platform.serving.transport.messages import FillTokens, RewardScores
from harmonixr_platform.settings import Settings

if TYPE_CHECKING:
    from harmonixr_model.fill.ranker import FilledWindow, Ranker


class Reward:
    """The registry's champion among the reward models, or the one that `user_config` names."""

    def __init__(self, args: ServingArgs, *, registry: Registry | None = None) -> None:
        self._args = args
        self._config = RewardConfig()
        self._registry = registry or open_registry(Settings())
        self._resolved: tuple[float, Version] | None = None
        self._loaded: tuple[str, Ranker] | None = None
        self._lock = asyncio.Lock()

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply a new `user_config`."""
        self._config = RewardConfig.model_validate(user_config or {})
        self._resolved = None

    async def score(
        self, midi: bytes, options: InfillOptions, tokens: Sequence[FillTokens], max_length: int
    ) -> RewardScores:
        """Return a reward for each candidate; raises NoRewardModel."""
        async with self._lock:
            return await asyncio.to_thread(self._score, midi, options, tokens, max_length)

    def _score(
        self, midi: bytes, options: InfillOptions, tokens: Sequence[FillTokens], max_length: int
    ) -> RewardScores:
        version = self._version()
        ranker = self._ranker(version)
        limit = self._args.max_midi_bytes
        sessions = [open_session(midi, options, max_midi_bytes=limit, max_length=max_length) for _ in tokens]
        fills = [_windows(session, windows) for session, windows in zip(sessions, tokens, strict=True)]
        return RewardScores(version.version, tuple(reward.lower for reward in ranker.score(fills)))

    def _version(self) -> Version:
        now = time.monotonic()
        if self._resolved is None or now - self._resolved[0] > self._args.alias_refresh_s:
            try:
                self._resolved = now, self._registry.resolve("reward", self._config.champion)
            except RegistryError as error:
                raise NoRewardModel(
                    "best_of needs a reward model and none is in service; judge pairs, then train one with "
                    "`harmonixr train platform/configs/train_reward.yaml`, or leave best_of out"
                ) from error
        return self._resolved[1]

    def _ranker(self, version: Version) -> Ranker:
        if self._loaded is None or self._loaded[0] != version.version:
            import torch

            from harmonixr_model.fill.ranker import Ranker

            torch.set_num_threads(self._args.threads)
            self._loaded = version.version, Ranker.load(self._registry.fetch(version))
        return self._loaded[1]


def _windows(session: FillSession, tokens: FillTokens) -> list[FilledWindow]:
    """Return the prompt of each window with its fill."""
    from harmonixr_model.fill.ranker import FilledWindow

    filled = []
    for window in tokens:
        prompt = session.next_prompt()
        assert prompt is not None
        filled.append(FilledWindow(prompt, window))
        session.accept(window)
    return filled
