"""Fill a gap with a passage of the song itself: which passages would fit, and which of them to take up.

Songs repeat themselves. `tokens.memory` finds passages whose surroundings are like the gap's; what they play, moved
into the gap, is a fill like any other, and a model says how likely it is there. Knows no model and no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harmonixr_model.errors import TokenError
from harmonixr_model.tokens.grammar import check_fill
from harmonixr_model.tokens.infill import EncodedScore, InfillPrompt, encode_answer
from harmonixr_model.tokens.memory import passage_notes, similar_passages

# So many passages are looked at.
PASSAGES = 8
# How much the likeness of the surroundings counts beside the model's opinion, in bits: measured on validation pieces
# (docs/log.md has the grid), where either alone chooses worse.
LIKENESS_BITS = 80.0


@dataclass(frozen=True, slots=True)
class Reprise:
    """A passage of the song as the answer to a prompt.

    Attributes:
        tokens: the fill's token ids.
        offset: bars from the gap's first bar to the passage's; negative before the gap.
        similarity: how alike the surroundings are, 0 to 1.
    """

    tokens: tuple[int, ...]
    offset: int
    similarity: float


def reprises(context: EncodedScore, prompt: InfillPrompt) -> list[Reprise]:
    """Return the passages that answer the prompt within its grammar, each once, those in the likest surroundings first.

    `context` is the song that the prompt was built of. There are none where one field of known notes is asked for, and
    no empty ones.
    """
    if any(cell.only for cell in prompt.cells):
        return []
    bars = context.score.bars_until(max(context.end, *(cell.end for cell in prompt.cells)))
    found: dict[tuple[int, ...], Reprise] = {}
    for passage in similar_passages(context, prompt.cells, bars, count=PASSAGES):
        notes = [passage_notes(context, cell, bars=bars, offset=passage.offset) for cell in prompt.cells]
        if not any(notes):
            continue
        tokens = tuple(encode_answer(prompt, notes)[0].tolist())
        try:
            check_fill(prompt, tokens)
        except TokenError:  # a limit, a lock or a note that sounds into the gap is in its way
            continue
        found.setdefault(tokens, Reprise(tokens, passage.offset, passage.similarity))
    return list(found.values())


def ranked(found: Sequence[Reprise], log_probabilities: Sequence[float]) -> list[tuple[Reprise, float]]:
    """Return the passages with their log probabilities (nats, as given), the one to take up first.

    Ranked by the bits the model saves on it and by the likeness of its surroundings.
    """
    return sorted(
        zip(found, log_probabilities, strict=True),
        key=lambda pair: LIKENESS_BITS * pair[0].similarity + pair[1] / math.log(2),
        reverse=True,
    )
