"""The whole loop: fill, listen, learn what is liked, choose by it, learn to make it, and let the gate decide.

Every stage leaves its result in the folder, and is not done again. The listener is simulated; everything that comes out
says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
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
from harmonixr_platform.loop.options import ASKED_SEED, GATE_SEED, JUDGED_SEED, LoopOptions
from harmonixr_platform.loop.pair_pool import Contestant, put_all_pairs, put_pairs
from harmonixr_platform.loop.progress import LoopProgress
from harmonixr_platform.loop.ranking import ranking_quality
from harmonixr_platform.loop.report import write_report
from harmonixr_platform.loop.service import one_process_service, running_service
from harmonixr_platform.loop.stage_results import LoopError, StageResults
from harmonixr_platform.loop.utility import ask
from harmonixr_platform.registry import Lineage, Version, open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.training import dpo_job, reward_job
from harmonixr_platform.training.composed_gaps import Gap, composed_gaps
from harmonixr_platform.training.model_metrics import ModelMetrics, measure_model
from harmonixr_platform.training.promotion_gate import PromotionGate, decide
from harmonixr_platform.training.reward_data import comparisons_of

_HELD_OUT = 0.2
_POOL = "loop"
# How much noise makes the worse model: a share of each weight matrix's own spread.
_DAMAGE = 0.35


@dataclass(slots=True)
class Loop:
    """One run. `configs` holds the job files; `serve_config` is the graph to start."""

    folder: StageResults
    plan: LoopOptions
    settings: Settings
    configs: Path
    serve_config: Path
    progress: LoopProgress
    services: contextlib.ExitStack
    with_ray: bool = True
    _url: str = ""

    def run(self) -> dict[str, Any]:
        """Do every stage that is not done; return all results."""
        registry = open_registry(self.settings)
        shipped = registry.ensure_shipped(SHIPPED).version if "base" not in self._done() else ""
        base = self.folder.once("base", lambda: {"version": shipped})["version"]
        results: dict[str, Any] = {"base": base}
        stages: list[tuple[str, str, Callable[[dict[str, Any]], dict[str, Any]]]] = [
            ("fills", "pool", self._fill),
            ("judging", "judged", self._judge),
            ("reward", "reward", self._fit_reward),
            ("ranking", "ranking", self._rank),
            ("best of n", "before", lambda r: self._ask(r, r["base"])),
            ("DPO", "dpo", self._train_dpo),
            ("after DPO", "after", lambda r: self._ask(r, r["dpo"]["version"])),
            ("a worse model", "worse", self._damage),
            ("the gate's pairs", "gate_pairs", self._gate_pairs),
            ("the gate's judging", "gate_judged", self._gate_judge),
            ("the gate", "gate", self._gate),
        ]
        for title, key, stage in stages:
            self.progress.begin(title)
            results[key] = self.folder.once(key, lambda stage=stage: stage(results))  # type: ignore[misc]
        self.progress.begin("report")
        write_report(self.folder.path, self.plan, results)
        return results

    def _done(self) -> set[str]:
        return {file.stem for file in (self.folder.path / "stages").glob("*.json")}

    def _fill(self, results: dict[str, Any]) -> dict[str, Any]:
        """Fill every gap and put all pairs into the pool; what each fill is worth stays here, in nobody's sight."""
        contestant, store = self._contestant(results["base"]), open_object_store(self.settings)
        utilities: dict[str, float] = {}
        pairs = 0
        for number, gap in enumerate(self._gaps(self.plan.pieces, JUDGED_SEED)):

            def fill(gap: Gap = gap, number: int = number) -> dict[str, Any]:
                fills = contestant.fill(gap, self.plan.fills, seed=self.plan.seed + 1000 * number)
                sides = [contestant.candidate(each) for each in fills]
                worth = [self.plan.taste.utility(gap.song.score, gap.region, each.notes) for each in fills]
                return {
                    "pairs": put_all_pairs(store, gap, sides, pool=_POOL),
                    "utilities": {f"{gap.piece_id} {s.midi_sha256}": u for s, u in zip(sides, worth, strict=True)},
                }

            made = self.folder.once(f"pool-{gap.piece_id}", fill)
            pairs += made["pairs"]
            utilities |= made["utilities"]
            self.progress.at(number + 1, self.plan.pieces, "gaps filled")
        return {"pairs": pairs, "fills": len(utilities), "utilities": utilities}

    def _judge(self, results: dict[str, Any]) -> dict[str, Any]:
        return self._judge_pool(_POOL, self.plan.judgments, seed=self.plan.seed)

    def _fit_reward(self, results: dict[str, Any]) -> dict[str, Any]:
        fitted = reward_job.run(
            self.configs / "train_reward.yaml",
            [
                "name=loop-reward",
                f"trunk={results['base']}",
                f"held_out={_HELD_OUT}",
                f"seed={self.plan.seed}",
                *self._scaling(),
            ],
            settings=self.settings,
            say=self.progress.note,
        )
        if fitted.version is None:
            raise LoopError("the reward job registered nothing; its configuration should say `register: true`")
        if not fitted.is_in_service:
            self.progress.note("not surely better than chance: kept out of service, used here all the same")
        info = fitted.info
        return {"version": fitted.version.version, **{key: info[key] for key in ("held_out", "quality", "data")}}

    def _rank(self, results: dict[str, Any]) -> dict[str, Any]:
        judged = read_feedback(open_object_store(self.settings)).judged
        comparisons = comparisons_of([item for item in judged if item.comparison.pool == _POOL], use_simulated=True)
        worth = results["pool"]["utilities"]
        utility_S = np.array([worth[f"{f.pair.piece_id} {f.candidate.midi_sha256}"] for f in comparisons.fills])
        return ranking_quality(
            self._ranker(results),
            comparisons,
            utility_S,
            held_out=_HELD_OUT,
            seed=self.plan.seed,
            progress=lambda done: self.progress.at(done, len(comparisons.fills), "fills read"),
        )

    def _ask(self, results: dict[str, Any], version: str) -> dict[str, Any]:
        asked = list(self._gaps(self.plan.asked, ASKED_SEED))
        return ask(
            self._contestant(version),
            self._ranker(results),
            asked,
            taste=self.plan.taste,
            drawn=self.plan.drawn,
            best_of=self.plan.best_of,
            seed=self.plan.seed,
            progress=lambda done: self.progress.at(done, self.plan.asked, "gaps filled"),
        )

    def _train_dpo(self, results: dict[str, Any]) -> dict[str, Any]:
        trained = dpo_job.run(
            self.configs / "train_dpo.yaml",
            [
                *("name=loop-dpo", f"policy={results['base']}", f"pool={_POOL}", "use_simulated=true"),
                *(f"held_out={_HELD_OUT}", f"seed={self.plan.seed}", f"training.epochs={self.plan.epochs}"),
                "min_comparisons=20",
                *self._scaling(),
            ],
            settings=self.settings,
            say=self.progress.note,
        )
        if trained.version is None:
            raise LoopError("the DPO job registered nothing; its configuration should say `register: true`")
        return {"version": trained.version.version, **trained.info["dpo"]}

    def _damage(self, results: dict[str, Any]) -> dict[str, Any]:
        """Register a model that is worse: the base with noise on its weights."""
        registry = open_registry(self.settings)
        model, info = load_checkpoint(registry.fetch(registry.resolve("infill", results["base"])))
        generator = torch.Generator().manual_seed(self.plan.seed)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.add_(_DAMAGE * weight.std() * torch.randn(weight.shape, generator=generator))
        file = self.folder.path / "worse.safetensors"
        save_checkpoint(file, model, info=info)
        note = "the base with noise on its weights, made to be refused"
        version = registry.register("infill", file, Lineage(note=note, parents=(f"infill/{results['base']}",)))
        return {"version": version.version}

    def _gate_pairs(self, results: dict[str, Any]) -> dict[str, Any]:
        """Put pairs of one fill of the champion and one of each version that asks into a pool of its own."""
        store, count = open_object_store(self.settings), self.plan.gate_pairs
        champion = self._contestant(results["base"])
        rivals = {name: self._contestant(results[name]["version"]) for name in ("dpo", "worse")}
        made = dict.fromkeys(rivals, 0)
        for number, gap in enumerate(self._gaps(self.plan.gate_gaps, GATE_SEED)):
            # Seeds apart: the same seed would draw much the same fill from models that are close.
            seed = self.plan.seed + 1000 * number
            held = [champion.candidate(fill) for fill in champion.fill(gap, count, seed=seed + 500)]
            for name, rival in rivals.items():
                asks = [rival.candidate(fill) for fill in rival.fill(gap, count, seed=seed)]
                made[name] += put_pairs(store, gap, list(zip(asks, held, strict=True)), pool=f"{_POOL}-{name}")
            self.progress.at(number + 1, self.plan.gate_gaps, "gaps filled")
        return made

    def _gate_judge(self, results: dict[str, Any]) -> dict[str, Any]:
        count = self.plan.gate_judgments
        return {name: self._judge_pool(f"{_POOL}-{name}", count, seed=i + 1) for i, name in enumerate(("worse", "dpo"))}

    def _gate(self, results: dict[str, Any]) -> dict[str, Any]:
        """Ask the gate for the worse model first, then for the better one."""
        registry = open_registry(self.settings)
        found: dict[str, ModelMetrics] = {}

        def measured(version: Version) -> ModelMetrics:
            if version.version not in found:
                model, _ = load_checkpoint(registry.fetch(version))
                asked = list(self._gaps(self.plan.measured_gaps, GATE_SEED))
                found[version.version] = measure_model(model, asked, fills=4, seed=self.plan.seed)
                self.progress.note(f"measured infill {version.version}")
            return found[version.version]

        decisions = {}
        for name in ("worse", "dpo"):
            gate = PromotionGate(
                pool=f"{_POOL}-{name}", use_simulated=True, min_judgments=min(50, self.plan.gate_judgments // 2)
            )
            if registry.resolve("infill").version == results[name]["version"]:
                raise LoopError("the gate decided before and the run was cut short then; give another folder")
            decision = decide("infill", results[name]["version"], settings=self.settings, gate=gate, measured=measured)
            outcome = "promoted" if decision.promoted else f"refused: {'; '.join(decision.reasons)}"
            self.progress.note(f"infill {decision.version} ({name}): {outcome}")
            decisions[name] = {"promotion_id": decision.promotion_id, **decision.model_dump(mode="json")}
        champion = registry.resolve("infill").version
        return {**decisions, "champion": champion, "measured": {key: asdict(value) for key, value in found.items()}}

    def _judge_pool(self, pool: str, count: int, *, seed: int) -> dict[str, Any]:
        """Have `count` answers in a pool, counting those of an earlier run, and move them to the object store."""
        already = self._moved(pool)
        given = judge_pool(
            self._service(),
            pool=pool,
            count=max(0, count - already),
            raters=self.plan.raters,
            taste=self.plan.taste,
            # Another seed for what is left of an interrupted run, or its raters would repeat their first answers.
            seed=seed + 100 * already,
            api_key=next(iter(self.settings.api_key_list()), None),
            progress=lambda done: self.progress.at(already + done, count, "judgments over HTTP"),
        )
        return {"judgments": self._moved(pool), "given": dict(given)}

    def _moved(self, pool: str) -> int:
        self._service()
        mover = Mover.open(self.settings)
        try:
            while mover.run_once():
                pass
        finally:
            mover.close()
        judged = read_feedback(open_object_store(self.settings)).judged
        return sum(item.comparison.pool == pool for item in judged)

    def _scaling(self) -> list[str]:
        return [] if self.with_ray else ["scaling.workers=0"]

    def _service(self) -> str:
        if not self._url:
            running = (
                running_service(self.settings, self.serve_config, say=self.progress.note)
                if self.with_ray
                else one_process_service(self.settings)
            )
            self._url = self.services.enter_context(running)
        return self._url

    def _contestant(self, version: str) -> Contestant:
        registry = open_registry(self.settings)
        return Contestant(registry, registry.resolve("infill", version), temperature=self.plan.temperature)

    def _ranker(self, results: dict[str, Any]) -> Ranker:
        registry = open_registry(self.settings)
        return Ranker.load(registry.fetch(registry.resolve("reward", results["reward"]["version"])))

    def _gaps(self, count: int, seed: int) -> Iterator[Gap]:
        config, _ = read_info(SHIPPED)
        return composed_gaps(count, seed=seed, max_context=self.plan.max_context, max_length=config.max_length)


def close_loop(
    path: Path,
    plan: LoopOptions,
    *,
    configs: Path,
    serve_config: Path,
    say: Callable[[str], None],
    with_ray: bool = True,
) -> dict[str, Any]:
    """Close the loop once in a folder, going on where an earlier run stopped; return all results.

    Without Ray, judgments go through the same HTTP application and stores in this process, and the jobs run in it.

    Raises LoopError when the folder holds a loop of another size.
    """
    folder = StageResults(path, plan)
    settings = Settings(state_dir=folder.state)
    # One: threads that wait for each other lose more beside a service, or any neighbour, than two of them gain.
    torch.set_num_threads(1)
    with contextlib.ExitStack() as services:
        return Loop(folder, plan, settings, configs, serve_config, LoopProgress(say), services, with_ray).run()
