"""Fit a reward model to judgments on Ray Train: judgments in, a registered model out.

Each worker reads the judgments, computes the trunk features of its share of the fills, shares them with the others, and
fits the heads data-parallel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
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
from harmonixr_platform.feedback.records.reader import Feedback
from harmonixr_platform.registry import Version
from harmonixr_platform.settings import Settings
from harmonixr_platform.training.config import JobError, parse_job, read_job_file
from harmonixr_platform.training.judgment_job import (
    JobInput,
    check_enough,
    fit_on_workers,
    open_input,
    print_message,
    worker_input,
)
from harmonixr_platform.training.preference_config import RewardJob
from harmonixr_platform.training.ray_trainer import report_checkpoint
from harmonixr_platform.training.registration import JobResult, register_model
from harmonixr_platform.training.reward_data import Comparisons, comparisons_of, windows_of

MODEL = "reward.safetensors"
# The features of fills by their row; None where the trunk cannot read a fill.
Features = dict[int, Tensor | None]


def run(
    config_path: Path,
    overrides: Sequence[str] = (),
    *,
    settings: Settings | None = None,
    log: Callable[[str], None] = print_message,
) -> JobResult:
    """Run the job of a YAML file.

    Raises JobError when the file is wrong, there are too few judgments or the workers keep failing; RegistryError
    without a trunk; StoreUnavailable.
    """
    values = read_job_file(config_path, overrides)
    job = parse_job(RewardJob, values, source=str(config_path))
    settings = settings or Settings()
    given = open_input(settings, job.trunk)
    comparisons = comparisons_of(given.feedback.judged, use_simulated=job.use_simulated)
    check_enough(job, comparisons, given.feedback)
    log(
        f"{len(comparisons.pairs)} comparisons of {len(comparisons.fills)} fills from {comparisons.pieces} pieces; "
        f"left out: {_left_out(comparisons)}; trunk: infill {given.base.version}"
    )
    if job.scaling.workers:
        checkpoint = fit_on_workers(fit_worker, job, values, given, settings)
        with checkpoint.as_directory() as where:
            ranker = Ranker.load(Path(where) / MODEL)
    else:
        ranker = fit(job, given.base, given.registry.fetch(given.base), given.feedback)
    file, info = settings.state_dir / "train" / job.name / MODEL, ranker.info
    ranker.save(file)
    log(_summary(info))
    if not job.register_version:
        return JobResult(file, info, None)
    version = _register(given, file, info, values)
    is_promoted = _promote(job, given, version, info["held_out"], log)
    log(f"registered: reward {version.version}")
    return JobResult(file, info, version, is_promoted)


def fit_worker(config: dict[str, Any]) -> None:
    """Run on each worker: compute the features of its share of the fills, then fit the heads with all ranks."""
    import ray.train
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    job = parse_job(RewardJob, config["job"], source="the job")
    torch.set_num_threads(job.scaling.cpus_per_worker)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    given = worker_input(config)

    def gather(own: Features) -> list[Features]:
        shares: list[Any] = [None] * world
        dist.all_gather_object(shares, own)
        return shares

    parallel: dict[str, Any] = {"gather": gather, "wrap": DistributedDataParallel} if world > 1 else {}
    ranker = fit(
        job,
        given.base,
        given.registry.fetch(given.base),
        given.feedback,
        rank=rank,
        world=world,
        on_epoch=lambda epoch: ray.train.report({"epoch": epoch.epoch, "loss": epoch.loss, **asdict(epoch.held_out)}),
        **parallel,
    )
    report_checkpoint(
        {"epoch": ranker.info["epochs"], **ranker.info["held_out"]}, lambda folder: ranker.save(folder / MODEL)
    )


def fit(
    job: RewardJob,
    base: Version,
    checkpoint: Path,
    feedback: Feedback,
    *,
    rank: int = 0,
    world: int = 1,
    gather: Callable[[Features], list[Features]] = lambda own: [own],
    wrap: Callable[[torch.nn.Module], torch.nn.Module] = lambda module: module,
    on_epoch: Callable[[RewardEpoch], None] = lambda epoch: None,
) -> Ranker:
    """Fit a reward model to judgments, without Ray.

    Args:
        job: the settings.
        base: the version of the trunk.
        checkpoint: the trunk's file.
        feedback: the judgments.
        rank: the index of this worker among `world`.
        world: the number of workers.
        gather: returns the features of all ranks.
        wrap: makes the heads data-parallel.
        on_epoch: called after each epoch.

    """
    trunk, _ = load_checkpoint(checkpoint)
    comparisons = comparisons_of(feedback.judged, use_simulated=job.use_simulated)
    torch.manual_seed(job.seed)
    heads = RewardHeads(job.heads.build(trunk.config.width))
    rows = range(rank, len(comparisons.fills), world)
    own = {row: features_or_none(trunk, comparisons, row, heads.config) for row in rows}
    pairs, features_SF = _readable(comparisons, {row: found for share in gather(own) for row, found in share.items()})
    split = split_comparisons(
        pairs,
        held_out=job.held_out,
        seed=job.seed,
        held_out_raters=job.held_out_raters,
        held_out_version=job.held_out_version,
    )
    epochs = 0
    for epoch in fit_rewards(
        heads,
        features_SF,
        pairs=pairs,
        train=split.train,
        valid=split.valid,
        config=RewardTraining(seed=job.seed, **job.fit.model_dump()),
        rank=rank,
        world=world,
        wrap=wrap,
    ):
        epochs += 1
        on_epoch(epoch)
    held_out = score_pairs(heads, features_SF, pairs=[pairs[i] for i in split.test])
    info = _info(job, base, feedback, comparisons, epochs, held_out, split)
    return Ranker(trunk, heads, {**info, **measure(heads, features_SF, pairs=pairs, split=split)})


@torch.no_grad()
def measure(
    heads: RewardHeads, features_SF: Tensor, *, pairs: Sequence[RatedPair], split: Split
) -> dict[str, dict[str, Any]]:
    """Return the quality on the test pieces, and the metrics of held-out raters and of a held-out model."""
    test = [pairs[i] for i in split.test]
    reward_S = heads(features_SF).mean(-1).double().numpy()
    margin_C = reward_S[[pair.first for pair in test]] - reward_S[[pair.second for pair in test]]
    measures_SM = features_SF[:, : heads.config.music_features].double().numpy()
    others = {
        name: asdict(score_pairs(heads, features_SF, pairs=[pairs[i] for i in indices]))
        for name, indices in (("raters", split.raters), ("version", split.version))
        if indices
    }
    fitted = [pairs[i] for i in split.train]
    return {"quality": quality(margin_C, test, measures_SM=measures_SM, fitted=fitted), "held_out_others": others}


def features_or_none(
    trunk: InfillTransformer, comparisons: Comparisons, row: int, config: RewardConfig
) -> Tensor | None:
    """Return a fill's trunk features, or None where this trunk cannot read it (another length or vocabulary)."""
    try:
        return fill_features(trunk, windows_of(comparisons.fills[row], max_length=trunk.config.max_length), config)
    except HarmonixrError:
        return None


def _readable(comparisons: Comparisons, table: Features) -> tuple[list[RatedPair], Tensor]:
    """Return the comparisons of two readable fills, and the features of all fills; count the other comparisons."""
    width = next((len(features) for features in table.values() if features is not None), None)
    if width is None:
        raise JobError("none of the judged fills can be read by this trunk; choose the model that made them as `trunk`")
    rows = (table[row] for row in range(len(comparisons.fills)))
    features_SF = torch.stack([torch.zeros(width) if features is None else features for features in rows])
    pairs = [p for p in comparisons.pairs if table[p.first] is not None and table[p.second] is not None]
    comparisons.counts["unreadable"] += len(comparisons.pairs) - len(pairs)
    return pairs, features_SF


def _info(
    job: RewardJob,
    base: Version,
    feedback: Feedback,
    comparisons: Comparisons,
    epochs: int,
    held_out: RewardMetrics,
    split: Split,
) -> dict[str, Any]:
    return {
        "trunk": {"version": base.version, "sha256": base.sha256},
        "data": {
            "hash": feedback.data_hash,
            "segments": len(feedback.manifests),
            "pieces": comparisons.pieces,
            "fills": len(comparisons.fills),
            "train_comparisons": len(split.train),
            "stopping_comparisons": len(split.valid),
            "held_out_comparisons": len(split.test),
            "counts": dict(comparisons.counts),
        },
        "job": json.loads(job.model_dump_json(by_alias=True)),
        "epochs": epochs,
        "held_out": asdict(held_out),
    }


def _register(given: JobInput, file: Path, info: dict[str, Any], values: dict[str, Any]) -> Version:
    held_out = info["held_out"]
    return register_model(
        given.registry,
        "reward",
        file,
        values,
        data=info["data"],
        metrics={"held_out_accuracy": held_out["accuracy"], "held_out_log_loss": held_out["log_loss"]},
        parents=(f"infill/{given.base.version}",),
        note="" if info["data"]["counts"].get("used") else "fitted to simulated judgments",
    )


def _promote(
    job: RewardJob, given: JobInput, version: Version, held_out: dict[str, Any], log: Callable[[str], None]
) -> bool:
    """Move the job's alias when the lower bound of the held-out accuracy is above one half."""
    if not job.register_as:
        return False
    if not held_out["interval"][0] > 0.5:
        log(
            f"not promoted to {job.register_as}: the lower bound of its held-out accuracy is not above one half; judge "
            f"more pairs, or run `harmonixr models promote reward {version.version}` to promote it anyway"
        )
        return False
    given.registry.promote("reward", version.version, alias=job.register_as, reason=f"fitted by job {job.name}")
    return True


def _summary(info: dict[str, Any]) -> str:
    held_out, ceiling = info["held_out"], info["quality"]["human_ceiling"]
    low, high = held_out["interval"]
    text = (
        f"held out: {held_out['decided']} decided comparisons, accuracy {held_out['accuracy']:.3f} "
        f"(95 % CI {low:.3f} to {high:.3f}), log-loss {held_out['log_loss']:.3f}, "
        f"calibration error {held_out['calibration_error']:.3f}; {info['epochs']} epochs"
    )
    agreement = f"; raters agree on {ceiling['agreement']:.3f} of {ceiling['pairs']} pairs"
    return text + (agreement if ceiling["pairs"] else "")


def _left_out(comparisons: Comparisons) -> str:
    counts = {name: count for name, count in comparisons.counts.items() if name not in {"used", "simulated_used"}}
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(counts.items())) or "none"
