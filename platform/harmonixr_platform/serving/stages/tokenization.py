"""The Tokenization stage: the prompt of one window of a request. Needs no weights and no torch."""

from __future__ import annotations

import time
from dataclasses import replace

from harmonixr_model.errors import RegionError
from harmonixr_platform.schemas import InfillOptions
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.serving.infill.session_cache import open_session
from harmonixr_platform.serving.transport.messages import FillTokens, Window


class Tokenization:
    """Stateless: each call carries everything that the prompt depends on."""

    def __init__(self, args: ServingArgs) -> None:
        self._args = args

    def window(self, midi: bytes, options: InfillOptions, done: FillTokens, max_length: int) -> Window:
        """Return the prompt of the window after those that `done` fills.

        Raises MidiError, RegionError, ControlError, PromptError for a request that cannot be filled.
        """
        started = time.perf_counter()
        limit = self._args.max_midi_bytes
        session = open_session(midi, options, max_midi_bytes=limit, max_length=max_length, done=done)
        prompt = session.next_prompt()
        if prompt is None:
            raise RegionError("the region holds nothing to fill; choose bars or beats of the song")
        # A copy, since this prompt may be cached and the Model stage times requests by the identity of their prompt.
        return Window(replace(prompt), len(done) + 1 == len(session.windows), time.perf_counter() - started)
