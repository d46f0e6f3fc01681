"""Log probabilities of several fills of one gap in one pass, with gradients; the context is read once.

Each fill attends to the context and to itself. The probabilities are exact, under the grammar's mask.
"""

# T tokens of prefix and all fills, P prefix tokens, S fills, N sampled tokens of all fills, V vocabulary, C width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harmonixr_model.grammar.fill_grammar import open_grammar
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.nn.attention import rotation
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.prompt.layout import InfillPrompt


@dataclass(frozen=True, slots=True)
class PackedFills:
    """One gap's prefix and several fills, laid out for `log_probabilities`.

    Attributes:
        tokens_T: prefix, then the fills one after the other.
        coordinates_TK: of each token.
        positions_T: the position of each token in its own sequence: every fill continues the prefix.
        owner_T: the fill of each token; -1 for the prefix.
        from_N: the index whose output predicts each sampled token; forced tokens are left out.
        target_N: the sampled tokens.
        fill_N: their fills.
        allowed_NV: the grammar's mask at each of them, eight tokens a byte.
        fills: the number of fills.

    """

    tokens_T: Tensor
    coordinates_TK: Tensor
    positions_T: Tensor
    owner_T: Tensor
    from_N: Tensor
    target_N: Tensor
    fill_N: Tensor
    allowed_NV: npt.NDArray[np.uint8]
    fills: int

    @property
    def sampled_S(self) -> Tensor:
        """How many tokens of each fill were sampled."""
        return torch.bincount(self.fill_N, minlength=self.fills)


def pack(prompt: InfillPrompt, fills: Sequence[Sequence[int]]) -> PackedFills:
    """Return the layout of `fills`; raises TokenError for one that is not a complete fill of the prompt."""
    prefix = len(prompt.prefix)
    tokens, coordinates = [prompt.prefix], [prompt.coordinates]
    positions, owner = [np.arange(prefix)], [np.full(prefix, -1)]
    sources: list[int] = []
    targets: list[int] = []
    fill_of: list[int] = []
    allowed: list[npt.NDArray[np.uint8]] = []
    start = prefix
    for number, fill in enumerate(fills):
        grammar = open_grammar(prompt.tables)
        for place, token in enumerate(fill):
            if grammar.forced is None:
                # The first token of every fill is predicted by the prefix's last.
                sources.append(start + place - 1 if place else prefix - 1)
                targets.append(token)
                fill_of.append(number)
                allowed.append(np.packbits(grammar.allowed()))
            grammar.advance(token)
        tokens.append(np.asarray(fill, dtype=prompt.prefix.dtype))
        coordinates.append(prompt.fill_coordinates(fill))
        positions.append(np.arange(prefix, prefix + len(fill)))
        owner.append(np.full(len(fill), number))
        start += len(fill)
    return PackedFills(
        tokens_T=torch.from_numpy(np.concatenate(tokens)).long(),
        coordinates_TK=torch.from_numpy(np.concatenate(coordinates)),
        positions_T=torch.from_numpy(np.concatenate(positions)),
        owner_T=torch.from_numpy(np.concatenate(owner)),
        from_N=torch.tensor(sources),
        target_N=torch.tensor(targets),
        fill_N=torch.tensor(fill_of),
        allowed_NV=np.stack(allowed),
        fills=len(fills),
    )


def log_probabilities(model: InfillTransformer, packed: PackedFills) -> Tensor:
    """Return the log probability of each fill in nats, [S], under the grammar's mask at temperature 1."""
    by = rotation(packed.positions_T, model.config.head_width)
    mask_TT = _attention_mask(packed.owner_T, is_causal=model.config.attending == "causal")
    x_1TC = model.embedding(packed.tokens_T[None], packed.coordinates_TK[None])
    for block in model.layers():
        x_1TC = block(x_1TC, by, mask_TT)
    logits_NV = model.embedding.logits(model.norm(x_1TC[0, packed.from_N])).float()
    allowed_NV = torch.from_numpy(np.unpackbits(packed.allowed_NV, axis=1, count=VOCAB.size)).bool()
    log_probability_NV = logits_NV.masked_fill(~allowed_NV, float("-inf")).log_softmax(-1)
    chosen_N = log_probability_NV.gather(-1, packed.target_N[:, None]).squeeze(-1)
    return torch.zeros(packed.fills).index_add(0, packed.fill_N, chosen_N)


def _attention_mask(owner_T: Tensor, *, is_causal: bool) -> Tensor:
    """Return the attention mask, bool [T, T]: the prefix attends to itself, a fill to the prefix and its own past.

    In a causal model the prefix too attends only to its past.
    """
    place_T = torch.arange(len(owner_T))
    is_past_TT = place_T[:, None] >= place_T
    is_prefix_TT = (owner_T == -1) & is_past_TT if is_causal else (owner_T == -1)
    return is_prefix_TT | ((owner_T[:, None] == owner_T) & is_past_TT)
