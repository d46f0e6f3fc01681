"""The arms of the comparison of architectures: each is the default with one change."""

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


class CachedExamples:
    """Examples that are sampled once for all arms with the same data; with `predicts_all` each token has a loss."""

    def __init__(self, source: InfillDataset | WarmUp, *, predicts_all: bool = False) -> None:
        self._source = source
        self._predicts_all = predicts_all
        self._examples: dict[tuple[int, int, int], Example] = {}

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Return an example of the source."""
        key = index, step, seed
        if key not in self._examples:
            example = self._source.example(index, step=step, seed=seed)
            if self._predicts_all:
                example = replace(example, loss_mask=np.arange(len(example.tokens)) > 0)
            self._examples[key] = example
        return self._examples[key]


@dataclass(frozen=True, slots=True)
class Arm:
    """One change of the model, its training or its data.

    With `predicts_all` the context's tokens have a loss too, which only a causal model can learn. `warm_up` is the
    share of steps at the start that train causally on whole songs; `seed` changes weights and data.
    """

    name: str
    description: str
    model: Mapping[str, Any] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    is_encoder_decoder: bool = False
    is_in_steps: bool = False
    is_in_one_key: bool = False
    predicts_all: bool = False
    warm_up: float = 0.0
    seed: int = 0

    @property
    def passages(self) -> int:
        """The number of similar passages in its prompts."""
        return int(self.data.get("passages", PASSAGES))

    @property
    def item_options(self) -> dict[str, Any]:
        """The arm's own arguments of `evaluation_items`."""
        return {name: self.data[name] for name in ("sources",) if name in self.data}

    def build(self, config: InfillConfig) -> InfillTransformer | EncoderDecoder | CompoundTransformer:
        """Return the arm's model; `config` is the default's."""
        changed = replace(config, **self.model)
        if self.is_in_steps:
            return CompoundTransformer(changed)
        return EncoderDecoder(changed) if self.is_encoder_decoder else InfillTransformer(changed)

    def schedule(self, loop: LoopConfig) -> LoopConfig:
        """Return the arm's training loop; `loop` is the default's."""
        return replace(loop, seed=self.seed, **self.loop)

    def open(self, corpus: Corpus) -> Corpus:
        """Return the arm's corpus."""
        return SingleKeyCorpus.open(corpus.folder) if self.is_in_one_key else corpus

    @property
    def data_key(self) -> tuple[object, ...]:
        """The settings that determine its examples; arms with equal settings share them."""
        return *sorted(self.data.items()), self.is_in_one_key, self.warm_up, self.predicts_all

    def source(self, corpus: Corpus, *, context: int, steps: int) -> CachedExamples:
        """Return the training examples of the arm's corpus."""
        config = DatasetConfig(max_tokens=context, **self.data)
        source: InfillDataset | WarmUp = InfillDataset(corpus, config)
        if self.warm_up:
            source = WarmUp(SongDataset(corpus, config), source, until=round(self.warm_up * steps))
        return CachedExamples(source, predicts_all=self.predicts_all)


# In the order of the runs.
ARMS = (
    Arm(DEFAULT, "bidirectional context, four coordinates, two similar passages, any key"),
    Arm("causal decoder", "causal attention in the context too", model={"attending": "causal"}),
    Arm(
        "causal, loss on all tokens",
        "a causal decoder that also predicts the context",
        model={"attending": "causal"},
        predicts_all=True,
    ),
    Arm("no coordinates", "rotary positions only", model={"coordinates": False}),
    Arm(
        "no song memory", "no similar passages: all of the prompt is for the bars around the gap", data={"passages": 0}
    ),
    Arm("encoder-decoder", "half of the layers encode, half decode with cross-attention", is_encoder_decoder=True),
    Arm("a note a step", "all fields of a note in one step; as many steps as the others have tokens", is_in_steps=True),
    Arm("causal warm-up", "the first third of the tokens are whole songs with causal attention", warm_up=1 / 3),
    Arm("one key", "training and evaluation in C major or A minor", data={"transposes": False}, is_in_one_key=True),
    Arm("keys as written", "no transposition in training", data={"transposes": False}),
    Arm("another seed", "the default with another seed, as a measure of noise", seed=1),
    Arm("dropout 0.1", "", model={"dropout": 0.1}),
    Arm("learning rate 1.5e-3", "", loop={"learning_rate": 1.5e-3}),
    Arm("learning rate 6e-3", "", loop={"learning_rate": 6e-3}),
    Arm("no weight decay", "", loop={"weight_decay": 0.0}),
    Arm("weight decay 0.3", "", loop={"weight_decay": 0.3}),
    Arm(
        "causal, no coordinates",
        "both changes: a plain decoder",
        model={"attending": "causal", "coordinates": False},
    ),
)


def find_arm(name: str) -> Arm:
    """Return the arm of that name; raises KeyError."""
    return {arm.name: arm for arm in ARMS}[name]
