"""Run the feedback loop: fill, judge, fit a reward model, train by DPO, and let the promotion gate decide.

Each stage stores its result in the loop's folder and does not run again. The listener is simulated, and all results are
labelled as simulated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harmonixr_model.fill.ranker import Ranker
from harmonixr_model.infill.checkpoint import load_checkpoint, read_info, save_checkpoint
from harmonixr_model.weights import SHIPPED
from harmonixr_platform.feedback.records.mover import Mover
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.loop.judgments import judge_pool
from harmonixr_platform.loop.options import GATE_SEED, JUDGED_SEED, UTILITY_SEED, LoopOptions
from harmonixr_platform.loop.pair_pool import GapFiller, put_pairs
from harmonixr_platform.loop.progress import LoopProgress
from harmonixr_platform.loop.ranking import ranking_quality
from harmonixr_platform.loop.report import write_report
from harmonixr_platform.loop.service import one_process_service, running_service
from harmonixr_platform.loop.stage_results import LoopError, StageResults
from harmonixr_platform.loop.utility import hidden_utilities
from harmonixr_platform.registry import Lineage, Registry, Version, open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.stores.objects import ObjectStore
from harmonixr_platform.training import dpo_job, reward_job
from harmonixr_platform.training.composed_gaps import Gap, composed_gaps
from harmonixr_platform.training.model_metrics import ModelMetrics, measure_model
from harmonixr_platform.training.promotion_gate import PromotionGate, decide
from harmonixr_platform.training.registration import JobResult
from harmonixr_platform.training.reward_data import comparisons_of

Result = dict[str, Any]

_HELD_OUT = 0.2
_POOL = "loop"
# The noise of the worse model: a share of the standard deviation of each weight matrix.
_WEIGHT_NOISE = 0.35


@dataclass(slots=True)
class Loop:
    """One run. `configs` holds the job files; `serve_config` is the graph to start."""

    folder: StageResults
    options: LoopOptions
    settings: Settings
    registry: Registry
    store: ObjectStore
    configs: Path
    serve_config: Path
    progress: LoopProgress
    services: contextlib.ExitStack
    with_ray: bool = True
    _url: str = ""

    def run(self) -> Result:
        """Run every stage that has no result; return all results."""
        base = self.folder.once("base", lambda: {"version": self.registry.ensure_shipped(SHIPPED).version})["version"]
        results: Result = {"base": base}
        stages: list[tuple[str, str, Callable[[Result], Result]]] = [
            ("fills", "pool", self._fill),
            ("judgments", "judged", self._judge),
            ("reward model", "reward", self._fit_reward),
            ("ranking", "ranking", self._rank),
            ("best of n", "before", lambda r: self._measure_utility(r, r["base"])),
            ("DPO", "dpo", self._train_dpo),
            ("best of n after DPO", "after", lambda r: self._measure_utility(r, r["dpo"]["version"])),
            ("worse model", "worse", self._make_worse_model),
            ("pairs for the promotion gate", "gate_pairs", self._make_gate_pairs),
            ("judgments for the promotion gate", "gate_judged", self._judge_gate_pairs),
            ("promotion gate", "gate", self._decide),
        ]
        for title, key, stage in stages:
            self.progress.begin(title)
            results[key] = self.folder.once(key, lambda stage=stage: stage(results))  # type: ignore[misc]
        self.progress.begin("report")
        write_report(self.folder.path, self.options, results)
        return results

    def _fill(self, results: Result) -> Result:
        """Fill every gap and put all pairs into the pool. The utilities of the fills stay in the loop's folder."""
        filler = self._filler(results["base"])
        utilities: dict[str, float] = {}
        pairs = 0
        for number, gap in enumerate(self._gaps(self.options.pieces, JUDGED_SEED)):

            def fill(gap: Gap = gap, number: int = number) -> Result:
                fills = filler.fill(gap, self.options.fills, seed=self.options.seed + 1000 * number)
                candidates = [filler.candidate(each) for each in fills]
                values = [self.options.taste.utility(gap.song.score, gap.region, each.notes) for each in fills]
                return {
                    "pairs": put_pairs(self.store, gap, combinations(candidates, 2), pool=_POOL),
                    "utilities": {
                        f"{gap.piece_id} {each.midi_sha256}": value
                        for each, value in zip(candidates, values, strict=True)
                    },
                }

            made = self.folder.once(f"pool-{gap.piece_id}", fill)
            pairs += made["pairs"]
            utilities |= made["utilities"]
            self.progress.at(number + 1, self.options.pieces, "gaps filled")
        return {"pairs": pairs, "fills": len(utilities), "utilities": utilities}

    def _judge(self, results: Result) -> Result:
        return self._judge_pool(_POOL, self.options.judgments, seed=self.options.seed)

    def _fit_reward(self, results: Result) -> Result:
        fitted = self._run_job(reward_job.run, "reward", f"trunk={results['base']}")
        if not fitted.is_promoted:
            self.progress.note("not promoted: its accuracy may be chance; the loop uses it anyway")
        assert fitted.version is not None
        return {"version": fitted.version.version, **{key: fitted.info[key] for key in ("held_out", "quality", "data")}}

    def _rank(self, results: Result) -> Result:
        judged = [item for item in read_feedback(self.store).judged if item.comparison.pool == _POOL]
        comparisons = comparisons_of(judged, use_simulated=True)
        utilities = results["pool"]["utilities"]
        utility_S = np.array([utilities[f"{f.pair.piece_id} {f.candidate.midi_sha256}"] for f in comparisons.fills])
        return ranking_quality(
            self._ranker(results),
            comparisons,
            utility_S,
            held_out=_HELD_OUT,
            seed=self.options.seed,
            progress=lambda done: self.progress.at(done, len(comparisons.fills), "fills read"),
        )

    def _measure_utility(self, results: Result, version: str) -> Result:
        return hidden_utilities(
            self._filler(version),
            self._ranker(results),
            list(self._gaps(self.options.utility_gaps, UTILITY_SEED)),
            taste=self.options.taste,
            fills=self.options.utility_fills,
            best_of=self.options.best_of,
            seed=self.options.seed,
            progress=lambda done: self.progress.at(done, self.options.utility_gaps, "gaps filled"),
        )

    def _train_dpo(self, results: Result) -> Result:
        trained = self._run_job(
            dpo_job.run,
            "dpo",
            f"policy={results['base']}",
            f"pool={_POOL}",
            "use_simulated=true",
            f"training.epochs={self.options.epochs}",
            "min_comparisons=20",
        )
        assert trained.version is not None
        return {"version": trained.version.version, **trained.info["dpo"]}

    def _run_job(self, run: Callable[..., JobResult], kind: str, *changes: str) -> JobResult:
        """Run a job of the configs folder with changed settings."""
        changes = (f"name=loop-{kind}", f"held_out={_HELD_OUT}", f"seed={self.options.seed}", *changes)
        if not self.with_ray:
            changes = (*changes, "scaling.workers=0")
        file = self.configs / f"train_{kind}.yaml"
        result = run(file, changes, settings=self.settings, log=self.progress.note)
        if result.version is None:
            raise LoopError(f"the {kind} job registered nothing; {file} should contain `register: true`")
        return result

    def _make_worse_model(self, results: Result) -> Result:
        """Register a model that is worse: the base with noise on its weights."""
        model, info = load_checkpoint(self.registry.fetch(self.registry.resolve("infill", results["base"])))
        generator = torch.Generator().manual_seed(self.options.seed)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.add_(_WEIGHT_NOISE * weight.std() * torch.randn(weight.shape, generator=generator))
        file = self.folder.path / "worse.safetensors"
        save_checkpoint(file, model, info=info)
        lineage = Lineage(note="the base with noise on its weights", parents=(f"infill/{results['base']}",))
        return {"version": self.registry.register("infill", file, lineage).version}

    def _make_gate_pairs(self, results: Result) -> Result:
        """Put pairs of the champion's and each new version's fills into a pool for that version."""
        count = self.options.gate_pairs
        champion = self._filler(results["base"])
        rivals = {name: self._filler(results[name]["version"]) for name in ("dpo", "worse")}
        pairs = dict.fromkeys(rivals, 0)
        for number, gap in enumerate(self._gaps(self.options.gate_gaps, GATE_SEED)):
            # Different seeds: with equal seeds, similar models sample similar fills.
            seed = self.options.seed + 1000 * number
            old = [champion.candidate(fill) for fill in champion.fill(gap, count, seed=seed + 500)]
            for name, rival in rivals.items():
                new = [rival.candidate(fill) for fill in rival.fill(gap, count, seed=seed)]
                pairs[name] += put_pairs(self.store, gap, zip(new, old, strict=True), pool=f"{_POOL}-{name}")
            self.progress.at(number + 1, self.options.gate_gaps, "gaps filled")
        return pairs

    def _judge_gate_pairs(self, results: Result) -> Result:
        count = self.options.gate_judgments
        return {name: self._judge_pool(f"{_POOL}-{name}", count, seed=i + 1) for i, name in enumerate(("worse", "dpo"))}

    def _decide(self, results: Result) -> Result:
        """Let the promotion gate decide on the worse model first, then on the better one."""
        metrics: dict[str, ModelMetrics] = {}

        def measure(version: Version) -> ModelMetrics:
            if version.version not in metrics:
                model, _ = load_checkpoint(self.registry.fetch(version))
                gaps = list(self._gaps(self.options.measured_gaps, GATE_SEED))
                metrics[version.version] = measure_model(model, gaps, fills=4, seed=self.options.seed)
                self.progress.note(f"measured infill {version.version}")
            return metrics[version.version]

        decisions = {}
        for name in ("worse", "dpo"):
            min_judgments = min(50, self.options.gate_judgments // 2)
            gate = PromotionGate(pool=f"{_POOL}-{name}", use_simulated=True, min_judgments=min_judgments)
            version = results[name]["version"]
            if self.registry.resolve("infill").version == version:
                raise LoopError("an earlier run stopped just after the gate's decision; give another folder")
            decision = decide("infill", version, settings=self.settings, gate=gate, measure=measure)
            outcome = "promoted" if decision.promoted else f"refused: {'; '.join(decision.reasons)}"
            self.progress.note(f"infill {decision.version} ({name}): {outcome}")
            decisions[name] = {"promotion_id": decision.promotion_id, **decision.model_dump(mode="json")}
        champion = self.registry.resolve("infill").version
        return {**decisions, "champion": champion, "measured": {key: asdict(value) for key, value in metrics.items()}}

    def _judge_pool(self, pool: str, count: int, *, seed: int) -> Result:
        """Judge a pool until it has `count` judgments, those of an earlier run included; move them to the store."""
        already = self._moved(pool)
        choices = judge_pool(
            self._service(),
            pool=pool,
            count=max(0, count - already),
            raters=self.options.raters,
            taste=self.options.taste,
            # Another seed after an interruption: with the same seed, the raters would repeat their first judgments.
            seed=seed + 100 * already,
            api_key=next(iter(self.settings.api_key_list()), None),
            progress=lambda done: self.progress.at(already + done, count, "judgments over HTTP"),
        )
        return {"judgments": self._moved(pool), "given": dict(choices)}

    def _moved(self, pool: str) -> int:
        """Move all judgments to the object store; return the number of those of a pool."""
        self._service()
        with contextlib.closing(Mover.open(self.settings)) as mover:
            while mover.run_once():
                pass
        return sum(item.comparison.pool == pool for item in read_feedback(self.store).judged)

    def _service(self) -> str:
        """Return the address of the service; start it at the first call."""
        if not self._url:
            service = (
                running_service(self.settings, self.serve_config, log=self.progress.note)
                if self.with_ray
                else one_process_service(self.settings)
            )
            self._url = self.services.enter_context(service)
        return self._url

    def _filler(self, version: str) -> GapFiller:
        resolved = self.registry.resolve("infill", version)
        return GapFiller.load(self.registry, resolved, temperature=self.options.temperature)

    def _ranker(self, results: Result) -> Ranker:
        return Ranker.load(self.registry.fetch(self.registry.resolve("reward", results["reward"]["version"])))

    def _gaps(self, count: int, seed: int) -> Iterator[Gap]:
        config, _ = read_info(SHIPPED)
        return composed_gaps(count, seed=seed, max_context=self.options.max_context, max_length=config.max_length)


def run_loop(
    path: Path,
    options: LoopOptions,
    *,
    configs: Path,
    serve_config: Path,
    progress: LoopProgress,
    with_ray: bool = True,
) -> Result:
    """Run the loop once in a folder, or continue an interrupted run; return all results.

    Without Ray, judgments use the same HTTP application and stores in this process, and the jobs run in it.

    Raises LoopError when the folder holds a loop of another size.
    """
    folder = StageResults(path, options)
    settings = Settings(state_dir=folder.state)
    # More threads slow each other down beside a service or other programs.
    torch.set_num_threads(1)
    with contextlib.ExitStack() as services:
        loop = Loop(
            folder,
            options,
            settings,
            open_registry(settings),
            open_object_store(settings),
            configs,
            serve_config,
            progress,
            services,
            with_ray,
        )
        return loop.run()
