"""The infilling task: sample examples until a step is full, batch them by length, and sum the loss on the gaps."""

# B batch, T tokens, K coordinates

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonixr_model.data.collate import Batch, collate
from harmonixr_model.data.corpus import SPLITS, Corpus
from harmonixr_model.data.dataset import DatasetConfig, Example, InfillDataset
from harmonixr_model.data.styles import composer_of, style_of
from harmonixr_model.data.whole_songs import SongDataset, WarmUp
from harmonixr_model.infill.loss import infill_loss
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.training.schedule import context_length

# Few different shapes, for the reason at infill.loss.LOGITS_MULTIPLE.
LENGTH_MULTIPLE = 64
# The share of examples with controls. The others preserve the quality of fills without controls.
CONTROLLED_SHARE = 0.5
DEFAULT_DATASET = DatasetConfig(control_share=CONTROLLED_SHARE)


class ExampleSource(Protocol):
    """Examples as a function of (seed, step, index); InfillDataset is one."""

    def example(self, index: int, *, step: int, seed: int) -> Example:
        """Sample one example; the same arguments give the same example."""
        ...


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """Tokens of a step over all workers, and tokens of one forward pass, padding included."""

    batch_tokens: int = 16_384
    micro_tokens: int = 4_096
    validation_examples: int = 256
    seed: int = 0


class InfillTask:
    """A Task over infill examples, for one worker of `world_size`.

    Args:
        stages: sources by context length in tokens; the run has one equal part for each length, shortest first.
        validation: the source of held-out examples.
        steps: the length of the run.
    """

    def __init__(
        self,
        stages: dict[int, ExampleSource],
        validation: ExampleSource,
        config: BatchConfig,
        *,
        steps: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.stages = stages
        self.held_out = validation
        self.config = config
        self.steps = steps
        self.rank = rank
        self.world_size = world_size
        self._validation: list[Batch] = []

    def batches(self, step: int) -> list[Batch]:
        """Return this worker's examples of a step in batches of similar length."""
        return self._collate(self.examples(step))

    def examples(self, step: int) -> list[Example]:
        """Sample examples of this step until they fill this worker's share of tokens; at least one."""
        source = self.stages[context_length(step, steps=self.steps, stages=sorted(self.stages))]
        share = self.config.batch_tokens / self.world_size
        examples: list[Example] = []
        while sum(len(example.tokens) for example in examples) < share:
            index = self.rank + self.world_size * len(examples)
            examples.append(source.example(index, step=step, seed=self.config.seed))
        return examples

    def validation(self) -> Iterable[Batch]:
        """Return this worker's share of the held-out examples, the same each time."""
        if not self._validation:
            mine = range(self.rank, self.config.validation_examples, self.world_size)
            # Training may use the same seed: its split is another one.
            self._validation = self._collate([self.held_out.example(index, step=0, seed=0) for index in mine])
        return self._validation

    def to(self, batch: Batch, device: torch.device) -> Batch:
        """Move every tensor of a batch."""
        return replace(
            batch,
            tokens_BT=batch.tokens_BT.to(device, non_blocking=True),
            coordinates_BTK=batch.coordinates_BTK.to(device, non_blocking=True),
            prefix_length_B=batch.prefix_length_B.to(device, non_blocking=True),
            length_B=batch.length_B.to(device, non_blocking=True),
            loss_mask_BT=batch.loss_mask_BT.to(device, non_blocking=True),
        )

    def weight(self, batch: Batch) -> int:
        """Count the tokens that carry loss."""
        return int(batch.loss_mask_BT[:, 1:].sum())

    def tokens(self, batch: Batch) -> int:
        """Count the tokens read."""
        return int(batch.length_B.sum())

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum the nats of the tokens that carry loss; count them and the notes among them."""
        nats_N, targets_N = infill_loss(model, batch)
        return nats_N.sum(), torch.stack((targets_N.new_tensor(len(targets_N)), is_note(targets_N).sum()))

    def _collate(self, examples: Sequence[Example]) -> list[Batch]:
        groups = bucket([len(example.tokens) for example in examples], max_tokens=self.config.micro_tokens)
        return [padded(collate([examples[index] for index in group]), multiple=LENGTH_MULTIPLE) for group in groups]


def corpus_task(
    corpus: Path | Corpus,
    config: BatchConfig,
    *,
    context: Sequence[int],
    steps: int,
    rank: int = 0,
    world_size: int = 1,
    dataset: DatasetConfig = DEFAULT_DATASET,
    songs_first: float = 0.0,
    task_type: type[InfillTask] = InfillTask,
) -> InfillTask:
    """Open a corpus as a task with one stage a context length; raises CorpusError.

    A share `songs_first` of the steps, at the start, reads whole songs with loss on every token. Validation examples
    have the longest context, no augmentation and no controls.
    """
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)

    def source(tokens: int) -> ExampleSource:
        config = replace(dataset, split="train", max_tokens=tokens)
        gaps = InfillDataset(opened, config)
        return WarmUp(SongDataset(opened, config), gaps, until=round(songs_first * steps)) if songs_first else gaps

    return task_type(
        {tokens: source(tokens) for tokens in context},
        InfillDataset(
            opened, replace(dataset, split="valid", max_tokens=max(context), augments=False, control_share=0.0)
        ),
        config,
        steps=steps,
        rank=rank,
        world_size=world_size,
    )


def describe_corpus(corpus: Path) -> dict[str, Any]:
    """Describe the data of a model: pieces, notes, sources, licences, tags and the manifest's hash."""
    opened = Corpus.open(corpus)
    pieces = [opened.piece(index) for index in range(len(opened))]
    training = [piece for piece in pieces if piece.split == "train"]
    return {
        "manifest_sha256": hashlib.sha256((corpus / "manifest.jsonl").read_bytes()).hexdigest(),
        "pieces": {split: sum(piece.split == split for piece in pieces) for split in SPLITS},
        "notes": {split: sum(piece.notes for piece in pieces if piece.split == split) for split in SPLITS},
        "sources": dict(sorted(Counter(piece.source for piece in pieces).items())),
        "licences": dict(sorted(Counter(piece.licence for piece in pieces).items())),
        "styles": dict(sorted(Counter(style for piece in training if (style := style_of(piece))).items())),
        "composers": dict(sorted(Counter(name for piece in training if (name := composer_of(piece))).items())),
    }


def padded(batch: Batch, *, multiple: int) -> Batch:
    """Pad a batch to a multiple of a length; padding carries no loss, and no token attends to it."""
    extra = -batch.tokens_BT.shape[1] % multiple
    return replace(
        batch,
        tokens_BT=F.pad(batch.tokens_BT, (0, extra)),
        coordinates_BTK=F.pad(batch.coordinates_BTK, (0, 0, 0, extra)),
        loss_mask_BT=F.pad(batch.loss_mask_BT, (0, extra)),
    )


def bucket(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Group indices of similar length so that each group, padded, holds at most `max_tokens`; longest first.

    A longer example is a group of its own.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not groups or lengths[groups[-1][0]] * (len(groups[-1]) + 1) > max_tokens:
            groups.append([])
        groups[-1].append(index)
    return groups


def is_note(tokens: Tensor) -> Tensor:
    """Return a mask of the tokens that begin a note: pitches."""
    pitch = VOCAB.pitch
    return (tokens >= pitch.start) & (tokens < pitch.start + pitch.size)
