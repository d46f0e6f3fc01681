"""What the comparison of architectures varies: each arm is the default with one thing changed. Knows no training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import DatasetConfig, Example, InfillDataset
from harmonixr_model.data.whole_songs import SongDataset, WarmUp
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.prompt.coordinates import PASSAGES
from harmonixr_model.training.loop import LoopConfig
from harmonixr_model.variants.compound import CompoundTransformer
from harmonixr_model.variants.encoder_decoder import EncoderDecoder
from harmonixr_model.variants.single_key_corpus import SingleKeyCorpus

DEFAULT = "prefix-LM (default)"


class Remembered:
    """Examples that are drawn once, for all arms that are shown the same; with `asks_all` each token carries loss."""

    def __init__(self, source: InfillDataset | WarmUp, *, asks_all: bool = False) -> None:
        self._source = source
        self._asks_all = asks_all
        self._examples: dict[tuple[int, int, int], Example] = {}

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return an example, as the source draws it."""
        key = index, step, seed
        if key not in self._examples:
            drawn = self._source.example(index, step=step, seed=seed)
            asked = np.arange(len(drawn.tokens)) > 0 if self._asks_all else drawn.loss_mask
            self._examples[key] = replace(drawn, loss_mask=asked)
        return self._examples[key]


@dataclass(frozen=True, slots=True)
class Arm:
    """One thing changed: in the model, in how it learns, or in what it is shown.

    `asks_all`: the context's tokens carry loss too, as only a causal model can learn them. `warm_up` is the share of
    the steps that read whole songs causally first; `seed` moves weights and data.
    """

    name: str
    says: str
    model: Mapping[str, Any] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    is_encoder_decoder: bool = False
    is_in_steps: bool = False
    is_in_one_key: bool = False
    asks_all: bool = False
    warm_up: float = 0.0
    seed: int = 0

    @property
    def passages(self) -> int:
        """How many passages of the song its prompts remember."""
        return int(self.data.get("passages", PASSAGES))

    @property
    def asks(self) -> dict[str, Any]:
        """What its items are asked of and with, besides what all arms share."""
        return {name: self.data[name] for name in ("sources",) if name in self.data}

    def build(self, config: InfillConfig) -> InfillTransformer | EncoderDecoder | CompoundTransformer:
        """Return the arm's model, `config` being the default's."""
        changed = replace(config, **self.model)
        if self.is_in_steps:
            return CompoundTransformer(changed)
        return EncoderDecoder(changed) if self.is_encoder_decoder else InfillTransformer(changed)

    def schedule(self, loop: LoopConfig) -> LoopConfig:
        """Return how the arm optimises, `loop` being the default's."""
        return replace(loop, seed=self.seed, **self.loop)

    def open(self, corpus: Corpus) -> Corpus:
        """Return the corpus as this arm hears it."""
        return SingleKeyCorpus.open(corpus.folder) if self.is_in_one_key else corpus

    @property
    def shown(self) -> tuple[object, ...]:
        """What decides its examples: arms that agree in this may share them."""
        return *sorted(self.data.items()), self.is_in_one_key, self.warm_up, self.asks_all

    def source(self, corpus: Corpus, *, context: int, steps: int) -> Remembered:
        """Return what the arm learns from, `corpus` being as it hears it."""
        config = DatasetConfig(max_tokens=context, **self.data)
        source: InfillDataset | WarmUp = InfillDataset(corpus, config)
        if self.warm_up:
            source = WarmUp(SongDataset(corpus, config), source, until=round(self.warm_up * steps))
        return Remembered(source, asks_all=self.asks_all)


# In the order they are run: where time ends, the last ones are missing.
ARMS = (
    Arm(DEFAULT, "context read both ways, four coordinates, two passages of the song, any key"),
    Arm("causal decoder", "the context too is read from left to right only", model={"attending": "causal"}),
    Arm(
        "causal, all tokens asked",
        "a causal decoder that learns to say the context as well",
        model={"attending": "causal"},
        asks_all=True,
    ),
    Arm("no coordinates", "a token says nothing but itself; rotary positions alone", model={"coordinates": False}),
    Arm("no song memory", "no passages: all the room is for the bars around the gap", data={"passages": 0}),
    Arm("encoder-decoder", "half of the layers read, half write and look back", is_encoder_decoder=True),
    Arm("a note a step", "the fields of a note at once; as many steps as others read tokens", is_in_steps=True),
    Arm("causal warm-up", "the first third of the tokens are whole songs, read causally", warm_up=1 / 3),
    Arm("one key", "all in C major or A minor, learnt and asked", data={"transposes": False}, is_in_one_key=True),
    Arm("keys as written", "no transposition in training", data={"transposes": False}),
    Arm("another seed", "the default again: what chance alone does", seed=1),
    Arm("dropout 0.1", "", model={"dropout": 0.1}),
    Arm("learning rate 1.5e-3", "", loop={"learning_rate": 1.5e-3}),
    Arm("learning rate 6e-3", "", loop={"learning_rate": 6e-3}),
    Arm("no weight decay", "", loop={"weight_decay": 0.0}),
    Arm("weight decay 0.3", "", loop={"weight_decay": 0.3}),
    Arm(
        "causal, no coordinates",
        "both at once: a plain decoder on our tokens",
        model={"attending": "causal", "coordinates": False},
    ),
)


def find_arm(name: str) -> Arm:
    """Return the arm of that name; raises KeyError."""
    return {arm.name: arm for arm in ARMS}[name]
