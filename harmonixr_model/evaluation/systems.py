"""Who answers: a model or a baseline, each with what it can do. Knows nothing of protocols' shapes or of reports."""

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

HUMAN = "what was there"


@dataclass(frozen=True, slots=True)
class System:
    """A name and what it can do: say how many bits an answer takes, by measure, or fill a gap, maybe several times."""

    name: str
    bits: Callable[[EvaluationItem], Mapping[str, float]] | None = None
    fills: Callable[[EvaluationItem], Sequence[Fills]] | None = None


@dataclass(slots=True)
class Sampler:
    """Draws the same fills for a item however often it is asked, and keeps those of the last item.

    Every sample of every item has a stream of its own.
    """

    engine: Engine
    samples: int
    sampling: Sampling
    _number: int = field(default=-1, init=False)
    _made: list[GeneratedFill] = field(default_factory=list, init=False)

    def generated(self, item: EvaluationItem) -> list[GeneratedFill]:
        """Return the item's fills with their likelihoods."""
        if item.number != self._number:
            seeds = [item.number * self.samples + i for i in range(self.samples)]
            self._made = self.engine.generate(item.prompt, seeds=seeds, sampling=self.sampling)
            self._number = item.number
        return self._made

    def fills(self, item: EvaluationItem) -> list[Fills]:
        """Return the item's fills as notes, cell by cell."""
        return [decode_fill(item.prompt, made.tokens) for made in self.generated(item)]

    def likeliest(self, item: EvaluationItem) -> list[Fills]:
        """Return the fill that the model itself thinks likeliest, per token drawn: in all, silence would win."""
        forced = sum(map(len, item.prompt.headers)) + 1
        best = max(self.generated(item), key=lambda made: made.log_probability / (len(made.tokens) - forced))
        return [decode_fill(item.prompt, best.tokens)]

    def best_rewarded(self, item: EvaluationItem, *, ranker: Ranker) -> list[Fills]:
        """Return the fill that a reward model is surest to like, as the service chooses."""
        made = self.generated(item)
        rewards = ranker.score([[FilledWindow(item.prompt, fill.tokens)] for fill in made])
        best = max(range(len(made)), key=lambda i: rewards[i].lower)
        return [decode_fill(item.prompt, made[best].tokens)]


def model_system(model: InfillTransformer, sampler: Sampler | None = None, *, name: str = "model") -> System:
    """Return a trained model as a system; without a sampler it only says bits."""
    return System(name, bits=partial(measured_bits, model), fills=sampler.fills if sampler is not None else None)


def best_of_systems(sampler: Sampler, *, ranker: Ranker | None = None, name: str = "model") -> list[System]:
    """Return the best of the sampler's fills by the model's likelihood, and by a reward model where there is one."""
    best = f"{name}, best of {sampler.samples} by"
    systems = [System(f"{best} likelihood", fills=sampler.likeliest)]
    if ranker is not None:
        systems.append(System(f"{best} reward", fills=partial(sampler.best_rewarded, ranker=ranker)))
    return systems


def greedy_system(engine: Engine, *, name: str = "model, greedy") -> System:
    """Return the model as it fills when it always takes the likeliest token."""
    return System(name, fills=Sampler(engine, 1, Sampling(temperature=0)).fills)


def blind_system(model: InfillTransformer, *, name: str = "model, future hidden") -> System:
    """Return the same model shown nothing after the gap; it only says bits. What it lacks is what infilling gains."""
    return System(name, bits=lambda item: measured_bits(model, hide_future(item)))


def human_system() -> System:
    """Return the hidden music as a system: the ceiling of what is compared with it, and how its own seams are."""
    return System(HUMAN, fills=lambda item: [item.original])


def retrieval_system(asked: Sequence[EvaluationItem], training: Iterable[Score]) -> System:
    """Return what the training music plays in surroundings like each gap's; it is read once, here."""
    found = retrieve(asked, training)
    return System("retrieve from training", fills=lambda item: [copied_field(item, found[item.number])])


def baseline_systems(markov: MarkovBaseline) -> list[System]:
    """Return the baselines: three copies and two chains."""
    return [
        System("copy the bar before", fills=lambda item: [copied_field(item, copy_bar(item, "previous"))]),
        System("copy the bar after", fills=lambda item: [copied_field(item, copy_bar(item, "next"))]),
        System("copy the most alike passage", fills=lambda item: [copied_field(item, copy_passage(item))]),
        System("Markov chain of order 2", bits=markov.bits),
        System("PPM primed on the song", bits=markov.bits_of_primed_ppm),
    ]
