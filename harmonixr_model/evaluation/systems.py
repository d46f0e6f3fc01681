"""The systems of an evaluation: models and baselines that give bits to the original, or fill gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from harmonixr_model.engine.engine import Engine, GeneratedFill, Sampling
from harmonixr_model.evaluation.baselines import MarkovBaseline, copy_bar, copy_passage
from harmonixr_model.evaluation.likelihood import measured_bits
from harmonixr_model.evaluation.metrics import Fills
from harmonixr_model.evaluation.protocol import EvaluationItem, hide_future
from harmonixr_model.evaluation.retrieval import retrieve
from harmonixr_model.evaluation.single_field import copied_field
from harmonixr_model.fill.ranker import FilledWindow, Ranker
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.music.score import Score
from harmonixr_model.prompt.fill_tokens import decode_fill

HUMAN = "human original"


@dataclass(frozen=True, slots=True)
class System:
    """A named system. `bits` returns the bits of the original by measure, `fills` one fill of a gap or several."""

    name: str
    bits: Callable[[EvaluationItem], Mapping[str, float]] | None = None
    fills: Callable[[EvaluationItem], Sequence[Fills]] | None = None


@dataclass(slots=True)
class SampledFills:
    """A fixed number of fills for each item: the same at each call, cached for the last item."""

    engine: Engine
    samples: int
    sampling: Sampling
    _number: int = field(default=-1, init=False)
    _cached: list[GeneratedFill] = field(default_factory=list, init=False)

    def generated(self, item: EvaluationItem) -> list[GeneratedFill]:
        """Return the item's fills with their likelihoods."""
        if item.number != self._number:
            seeds = [item.number * self.samples + i for i in range(self.samples)]
            self._cached = self.engine.generate(item.prompt, seeds=seeds, sampling=self.sampling)
            self._number = item.number
        return self._cached

    def fills(self, item: EvaluationItem) -> list[Fills]:
        """Return the item's fills as notes of each cell."""
        return [decode_fill(item.prompt, fill.tokens) for fill in self.generated(item)]

    def likeliest(self, item: EvaluationItem) -> list[Fills]:
        """Return the fill with the highest likelihood per sampled token; the total would favour silence."""
        forced = sum(map(len, item.prompt.headers)) + 1
        best = max(self.generated(item), key=lambda fill: fill.log_probability / (len(fill.tokens) - forced))
        return [decode_fill(item.prompt, best.tokens)]

    def best_rewarded(self, item: EvaluationItem, *, ranker: Ranker) -> list[Fills]:
        """Return the fill with the highest lower bound of a reward model, as the service does."""
        fills = self.generated(item)
        rewards = ranker.score([[FilledWindow(item.prompt, fill.tokens)] for fill in fills])
        best = max(range(len(fills)), key=lambda i: rewards[i].lower)
        return [decode_fill(item.prompt, fills[best].tokens)]


def model_system(model: InfillTransformer, sampled: SampledFills | None = None, *, name: str = "model") -> System:
    """Return a trained model as a system; without sampled fills it gives bits only."""
    return System(name, bits=partial(measured_bits, model), fills=sampled.fills if sampled is not None else None)


def best_of_systems(sampled: SampledFills, *, ranker: Ranker | None = None, name: str = "model") -> list[System]:
    """Return the best of the sampled fills by the model's likelihood, and by a reward model if there is one."""
    best = f"{name}, best of {sampled.samples} by"
    systems = [System(f"{best} likelihood", fills=sampled.likeliest)]
    if ranker is not None:
        systems.append(System(f"{best} reward", fills=partial(sampled.best_rewarded, ranker=ranker)))
    return systems


def greedy_system(engine: Engine, *, name: str = "model, greedy") -> System:
    """Return the model with the most likely token at each step."""
    return System(name, fills=SampledFills(engine, 1, Sampling(temperature=0)).fills)


def future_hidden_system(model: InfillTransformer, *, name: str = "model, future hidden") -> System:
    """Return the model without anything after the gap, bits only; the difference is the gain of infilling."""
    return System(name, bits=lambda item: measured_bits(model, hide_future(item)))


def human_system() -> System:
    """Return the hidden music as a system, the ceiling of every comparison."""
    return System(HUMAN, fills=lambda item: [item.original])


def retrieval_system(items: Sequence[EvaluationItem], training: Iterable[Score]) -> System:
    """Return the passages of the training music whose surroundings resemble each gap's; it is read once, here."""
    found = retrieve(items, training)
    return System("retrieve from training", fills=lambda item: [copied_field(item, found[item.number])])


def baseline_systems(markov: MarkovBaseline) -> list[System]:
    """Return the baselines: three copies and two chains."""
    return [
        System("copy the bar before", fills=lambda item: [copied_field(item, copy_bar(item, "previous"))]),
        System("copy the bar after", fills=lambda item: [copied_field(item, copy_bar(item, "next"))]),
        System("copy the most similar passage", fills=lambda item: [copied_field(item, copy_passage(item))]),
        System("Markov chain of order 2", bits=markov.bits),
        System("PPM primed on the song", bits=markov.bits_of_primed_ppm),
    ]
