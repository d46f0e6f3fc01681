"""Fit a reward model to what listeners said, on Ray Train: manifests in, a registered model out.

Each worker reads the judgments itself, computes the trunk features of its share of the fills, gives them to the others,
and fits the heads data-parallel. Knows nothing of who serves the model.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harmonixr_model.errors import HarmonixrError
from harmonixr_model.fill.ranker import Ranker, fill_features
from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.preference.config import RewardConfig
from harmonixr_model.preference.metrics import RewardMetrics
from harmonixr_model.preference.model import RewardHeads
from harmonixr_model.preference.pairs import RatedPair, Split, split_comparisons
from harmonixr_model.preference.report import quality
from harmonixr_model.training.reward_loop import RewardEpoch, RewardTraining, fit_rewards, score_pairs
from harmonixr_model.weights import SHIPPED
from harmonixr_platform.feedback.records.reader import Feedback, read_feedback
from harmonixr_platform.registry import Lineage, Registry, Version, open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.connect import open_object_store
from harmonixr_platform.training.config import JobError, parse_job, read_job_file
from harmonixr_platform.training.job_corpus import code_version
from harmonixr_platform.training.ray_session import ray_session
from harmonixr_platform.training.reward_config import RewardJob
from harmonixr_platform.training.reward_data import Comparisons, comparisons_of, windows_of
from harmonixr_platform.training.storage import open_storage

MODEL = "reward.safetensors"


@dataclass(frozen=True, slots=True)
class FittedReward:
    """What a job left: the model's file, its held-out numbers, its version, and whether it went into service."""

    model: Path
    held_out: RewardMetrics
    info: dict[str, Any]
    version: Version | None
    is_in_service: bool


def run(
    config_path: Path,
    overrides: Sequence[str] = (),
    *,
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201  the job's progress
) -> FittedReward:
    """Run the job a YAML file describes.

    Raises JobError when the file is wrong or there are too few judgments, RegistryError without a trunk,
    StoreUnavailable; ray.train.TrainingFailedError when workers keep failing.
    """
    values = read_job_file(config_path, overrides)
    job = parse_job(RewardJob, values, source=str(config_path))
    settings = settings or Settings()
    registry = open_registry(settings)
    if SHIPPED.is_file():
        registry.ensure_shipped(SHIPPED)
    trunk = registry.resolve("infill", job.trunk)
    feedback = read_feedback(open_object_store(settings))
    comparisons = comparisons_of(feedback.judged, use_simulated=job.use_simulated)
    _check_enough(job, comparisons, feedback)
    say(
        f"{len(comparisons.pairs)} comparisons of {len(comparisons.fills)} fills from {_pieces(comparisons)} pieces; "
        f"left out: {_counted(comparisons)}; trunk: infill {trunk.version}"
    )
    folder = settings.state_dir / "train" / job.name
    if job.scaling.workers:
        storage = open_storage(job.storage, settings)
        with ray_session(cpus=job.scaling.workers * job.scaling.cpus_per_worker):
            result = _trainer(job, values, trunk, feedback, settings, storage).fit()
        if result.error is not None:
            raise result.error
        with result.checkpoint.as_directory() as where:
            ranker = Ranker.load(Path(where) / MODEL)
    else:
        ranker = fit(job, trunk, registry.fetch(trunk), feedback)
    ranker.save(folder / MODEL)
    model, info, held_out = folder / MODEL, ranker.info, _metrics(ranker.info)
    say(_sentence(held_out, info))
    version = _register(job, registry, model, info, values, trunk) if job.register_version else None
    is_in_service = version is not None and _promote(job, registry, version, held_out, say)
    if version is not None:
        say(f"registered: reward {version.version}")
    return FittedReward(model, held_out, info, version, is_in_service)


def _check_enough(job: RewardJob, comparisons: Comparisons, feedback: Feedback) -> None:
    if len(comparisons.pairs) < job.min_comparisons or _pieces(comparisons) < 2:
        raise JobError(
            f"{len(comparisons.pairs)} usable comparisons of {_pieces(comparisons)} pieces; {job.min_comparisons} of "
            f"2 pieces or more are needed. {len(feedback.manifests)} segments were read; judge more pairs on the page, "
            "or `harmonixr feedback move` those that still wait in the stream"
        )


def _trainer(
    job: RewardJob, values: dict[str, Any], trunk: Version, feedback: Feedback, settings: Settings, storage: Any
) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    return TorchTrainer(
        fit_worker,
        # Secrets stay in the environment: workers build their own settings from it.
        train_loop_config={
            "job": values,
            "trunk": trunk.version,
            "data": feedback.data_hash,
            "state": settings.state_dir,
        },
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.scaling.workers, resources_per_worker={"CPU": job.scaling.cpus_per_worker}
        ),
        run_config=RunConfig(
            # A fit is short and its data moves on, so each one is a run of its own rather than a resumed one.
            name=f"{job.name}-{feedback.data_hash[:12]}-{_short_hash(values)}",
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            failure_config=FailureConfig(max_failures=1),
        ),
    )


def fit_worker(config: dict[str, Any]) -> None:
    """Run on each worker: features of its share of the fills, then the heads, all ranks together."""
    import ray.train
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    job = parse_job(RewardJob, config["job"], source="the job")
    torch.set_num_threads(job.scaling.cpus_per_worker)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    settings = Settings(state_dir=config["state"])
    registry = open_registry(settings)
    trunk_version = registry.resolve("infill", config["trunk"])
    feedback = read_feedback(open_object_store(settings))
    if feedback.data_hash != config["data"]:
        raise JobError("judgments were moved while the job was starting; run it again")

    def gather(mine: dict[int, Tensor | None]) -> list[dict[int, Tensor | None]]:
        shares: list[Any] = [None] * world
        dist.all_gather_object(shares, mine)
        return shares

    ranker = fit(
        job,
        trunk_version,
        registry.fetch(trunk_version),
        feedback,
        rank=rank,
        world=world,
        gather=gather if world > 1 else None,
        wrap=DistributedDataParallel if world > 1 else _unwrapped,
        tell=lambda epoch: ray.train.report({"epoch": epoch.epoch, "loss": epoch.loss, **asdict(epoch.held_out)}),
    )
    with tempfile.TemporaryDirectory() as folder:
        if rank == 0:
            ranker.save(Path(folder) / MODEL)
        checkpoint = ray.train.Checkpoint.from_directory(folder) if rank == 0 else None
        ray.train.report({"epoch": ranker.info["epochs"], **ranker.info["held_out"]}, checkpoint=checkpoint)


def fit(
    job: RewardJob,
    trunk_version: Version,
    checkpoint: Path,
    feedback: Feedback,
    *,
    rank: int = 0,
    world: int = 1,
    gather: Callable[[dict[int, Tensor | None]], list[dict[int, Tensor | None]]] | None = None,
    wrap: Callable[[torch.nn.Module], torch.nn.Module] = lambda module: module,
    tell: Callable[[RewardEpoch], None] = lambda epoch: None,
) -> Ranker:
    """Fit a reward model on a trunk's checkpoint to what was judged. One rank of several, or all; no Ray is needed.

    Args:
        job: what to fit, and how.
        trunk_version: what the trunk is called.
        checkpoint: where it is.
        feedback: the judgments.
        rank: this worker's place among `world`.
        gather: gives every rank the features that all ranks made.
        wrap: makes the heads data-parallel.
        tell: called after each epoch.

    """
    trunk, _ = load_checkpoint(checkpoint)
    comparisons = comparisons_of(feedback.judged, use_simulated=job.use_simulated)
    torch.manual_seed(job.seed)
    heads = RewardHeads(job.heads.build(trunk.config.width))
    rows = range(rank, len(comparisons.fills), world)
    mine = {row: features_or_none(trunk, comparisons, row, heads.config) for row in rows}
    table = {row: features for share in (gather(mine) if gather else [mine]) for row, features in share.items()}
    pairs, features_SF = _usable(comparisons, table)
    split = split_comparisons(
        pairs,
        held_out=job.held_out,
        seed=job.seed,
        held_out_raters=job.held_out_raters,
        held_out_version=job.held_out_version,
    )
    schedule = RewardTraining(seed=job.seed, **job.fit.model_dump())
    epochs: list[RewardEpoch] = []
    for epoch in fit_rewards(
        heads,
        features_SF,
        pairs=pairs,
        train=split.train,
        valid=split.valid,
        config=schedule,
        rank=rank,
        world=world,
        wrap=wrap,
    ):
        epochs.append(epoch)
        tell(epoch)
    held_out = score_pairs(heads, features_SF, pairs=[pairs[i] for i in split.test])
    info = _info(job, trunk_version, feedback, comparisons, epochs, held_out, split)
    return Ranker(trunk, heads, {**info, **measure(heads, features_SF, pairs=pairs, split=split)})


@torch.no_grad()
def measure(
    heads: RewardHeads, features_SF: Tensor, *, pairs: Sequence[RatedPair], split: Split
) -> dict[str, dict[str, Any]]:
    """Return the report beyond the headline: quality on the test pieces, and other raters and another model apart."""
    test = [pairs[i] for i in split.test]
    reward_S = heads(features_SF).mean(-1).double().numpy()
    margin_C = reward_S[[pair.first for pair in test]] - reward_S[[pair.second for pair in test]]
    measures_SM = features_SF[:, : heads.config.music_features].double().numpy()
    apart = {
        name: asdict(score_pairs(heads, features_SF, pairs=[pairs[i] for i in indices]))
        for name, indices in (("raters", split.raters), ("version", split.version))
        if indices
    }
    fitted = [pairs[i] for i in split.train]
    return {"quality": quality(margin_C, test, measures_SM=measures_SM, fitted=fitted), "held_out_others": apart}


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    return module


def features_or_none(
    trunk: InfillTransformer, comparisons: Comparisons, row: int, config: RewardConfig
) -> Tensor | None:
    """Return a fill's trunk features, or None where this trunk cannot read it (another length or vocabulary)."""
    try:
        return fill_features(trunk, windows_of(comparisons.fills[row], max_length=trunk.config.max_length), config)
    except HarmonixrError:
        return None


def _usable(comparisons: Comparisons, table: dict[int, Tensor | None]) -> tuple[list[RatedPair], Tensor]:
    """Return the comparisons whose fills could both be read, and the feature table; the others are counted."""
    width = next((len(features) for features in table.values() if features is not None), None)
    if width is None:
        raise JobError("none of the judged fills can be read by this trunk; choose the model that made them as `trunk`")
    features_SF = torch.stack(
        [
            features if (features := table[row]) is not None else torch.zeros(width)
            for row in range(len(comparisons.fills))
        ]
    )
    pairs = [p for p in comparisons.pairs if table[p.first] is not None and table[p.second] is not None]
    comparisons.counts["unreadable"] += len(comparisons.pairs) - len(pairs)
    return pairs, features_SF


def _info(
    job: RewardJob,
    trunk: Version,
    feedback: Feedback,
    comparisons: Comparisons,
    epochs: Sequence[RewardEpoch],
    held_out: RewardMetrics,
    split: Split,
) -> dict[str, Any]:
    return {
        "trunk": {"version": trunk.version, "sha256": trunk.sha256},
        "data": {
            "hash": feedback.data_hash,
            "segments": len(feedback.manifests),
            "pieces": _pieces(comparisons),
            "fills": len(comparisons.fills),
            "train_comparisons": len(split.train),
            "stopping_comparisons": len(split.valid),
            "held_out_comparisons": len(split.test),
            "counts": dict(comparisons.counts),
        },
        "job": json.loads(job.model_dump_json(by_alias=True)),
        "epochs": len(epochs),
        "held_out": asdict(held_out),
    }


def _metrics(info: dict[str, Any]) -> RewardMetrics:
    numbers = dict(info["held_out"])
    numbers["interval"] = tuple(numbers["interval"])
    return RewardMetrics(**numbers)


def _register(
    job: RewardJob, registry: Registry, model: Path, info: dict[str, Any], values: dict[str, Any], trunk: Version
) -> Version:
    held_out = info["held_out"]
    measured = {"held_out_accuracy": held_out["accuracy"], "held_out_log_loss": held_out["log_loss"]}
    return registry.register(
        "reward",
        model,
        Lineage(
            data=info["data"],
            config=json.loads(json.dumps(values, default=str)),
            code=code_version(),
            metrics={name: value for name, value in measured.items() if math.isfinite(value)},
            parents=(f"infill/{trunk.version}",),
            note="fitted to simulated judgments" if not info["data"]["counts"].get("used") else "",
        ),
    )


def _promote(
    job: RewardJob, registry: Registry, version: Version, held_out: RewardMetrics, say: Callable[[str], None]
) -> bool:
    if not job.register_as:
        return False
    if not held_out.interval[0] > 0.5:
        say(
            f"not made {job.register_as}: its held-out accuracy is not surely above one half; judge more pairs, or "
            f"`harmonixr models promote reward {version.version}` all the same"
        )
        return False
    registry.promote("reward", version.version, alias=job.register_as, reason=f"fitted by job {job.name}")
    return True


def _sentence(held_out: RewardMetrics, info: dict[str, Any]) -> str:
    low, high = held_out.interval
    return (
        f"held out: {held_out.decided} decided comparisons, accuracy {held_out.accuracy:.3f} "
        f"(95 %: {low:.3f}-{high:.3f}), log-loss {held_out.log_loss:.3f}, "
        f"calibration error {held_out.calibration_error:.3f}; {info['epochs']} epochs{_ceiling(info)}"
    )


def _ceiling(info: dict[str, Any]) -> str:
    ceiling = info["quality"]["human_ceiling"]
    return f"; raters agree on {ceiling['agreement']:.3f} of {ceiling['pairs']} pairs" if ceiling["pairs"] else ""


def _pieces(comparisons: Comparisons) -> int:
    return len({pair.piece_id for pair in comparisons.pairs})


def _counted(comparisons: Comparisons) -> str:
    left_out = {name: count for name, count in comparisons.counts.items() if name not in {"used", "simulated_used"}}
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(left_out.items())) or "none"


def _short_hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
