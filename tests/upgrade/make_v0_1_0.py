"""Make the fixtures in v0_1_0/ with the code of version 0.1.0.

They were made at commit 52ae6f1. Today's code cannot run this script: its imports are those of that commit. To run it
again, check that commit out into a folder of its own and give a folder that does not exist yet:

    PYTHONPATH=OLD:OLD/platform:OLD/ui python tests/upgrade/make_v0_1_0.py OLD FOLDER

The fixtures hold no music but what the project's composer writes and the bundled examples.
"""

# ruff: noqa: I001  the imports are those of another commit
import base64
import hashlib
import json
import random
import shutil
import sys
import zipfile
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import torch
import yaml
from harmonixr_model import examples
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import DatasetConfig, InfillDataset
from harmonixr_model.infill.checkpoint import load_checkpoint, save_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.infill.pointer import FEATURES, PointerGate
from harmonixr_model.infiller import Infiller, shipped_weights
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
from harmonixr_model.music.write import write_midi
from harmonixr_model.preference.config import RewardConfig
from harmonixr_model.preference.model import RewardHeads
from harmonixr_model.ranker import FilledWindow, Ranker
from harmonixr_model.session import FillSession
from harmonixr_model.tokens.coordinates import ASKED_SIZE
from harmonixr_model.tokens.pointer import KINDS
from harmonixr_model.tokens.text import from_text, to_text
from harmonixr_model.tokens.tokenizer import decode, encode
from harmonixr_model.tokens.vocab import VOCAB
from harmonixr_model.training.composed import write_composed_corpus
from harmonixr_model.training.infill import BatchConfig
from harmonixr_model.training.loop import LoopConfig
from harmonixr_model.training.single import SingleJob, run_single
from harmonixr_platform.feedback.backup import back_up
from harmonixr_platform.feedback.erase import Eraser
from harmonixr_platform.feedback.export import export_dataset
from harmonixr_platform.feedback.flags import record_flags
from harmonixr_platform.feedback.generate import Contestant, Piece, build_pool, candidate_of
from harmonixr_platform.feedback.judgments import JudgmentLog
from harmonixr_platform.feedback.mover import Mover
from harmonixr_platform.feedback.pairs import make_pair
from harmonixr_platform.feedback.reader import read_feedback
from harmonixr_platform.feedback.service import FeedbackService
from harmonixr_platform.feedback.studies import Begun, StudyStore
from harmonixr_platform.feedback.study import parse_study, read_study
from harmonixr_platform.feedback.study_pool import begin_study
from harmonixr_platform.registry import Check, Lineage, Promotion, open_registry
from harmonixr_platform.requests import limits_of, resolve_region, sampling_of, soft_of
from harmonixr_platform.schemas import ControlSpec, Flag, JudgmentRequest, RegionSpec, SamplingSpec
from harmonixr_platform.schemas.comparing import ComparisonRequest
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.stores.objects import open_object_store
from harmonixr_platform.stores.streams import open_stream
from harmonixr_platform.training.config import InfillJob, TuneJob, parse_job
from harmonixr_platform.training.dpo_config import DpoJob
from harmonixr_platform.training.gate import read_gate
from harmonixr_platform.training.infill_job import _identity as job_identity
from harmonixr_platform.training.reward_config import RewardJob
from make_v0_1_0_interfaces import record_interfaces

# Far ahead, so that nothing in the append-only file has expired when a test starts a server on it.
NOW = datetime(2090, 1, 1, 12, tzinfo=UTC)
SECRET = "the secret of the fixtures"
MINUET = examples.load("minuet-in-g")
ALL_CONTROLS = {
    "pitch_min": 36,
    "pitch_max": 96,
    "key": "C major",
    "max_polyphony": 2,
    "min_notes_per_bar": 1,
    "max_notes_per_bar": 8,
    "velocity_min": 30,
    "velocity_max": 110,
    "density": 2.0,
    "polyphony": 1.5,
    "velocity": 70,
    "chords": "C | G7",
    "chord_tones_only": True,
    "enforce": True,
    "style": "pop",
}


def main(old: Path, out: Path) -> None:
    """Write every fixture into `out`."""
    torch.set_num_threads(1)
    out.mkdir(parents=True)
    expected = {"vocabulary_hash": str(VOCAB.hash), "block_starts": block_starts()}
    (out / "vocabulary.txt").write_text("".join(f"{VOCAB.name(token)}\n" for token in range(VOCAB.size)))
    expected["checkpoints"] = make_checkpoints(out)
    expected["shipped"] = shipped_fills()
    expected["reward"] = make_reward(out)
    expected["configs"] = make_configs(old, out / "configs")
    expected["corpus"] = make_corpus(out)
    (out / "minuet.txt").write_text(to_text(encode(Song.parse(MINUET).score)))
    expected["token_text"] = sha256(write_midi(decode(from_text((out / "minuet.txt").read_text()))))
    expected["state"] = make_state(out)
    (out / "expected.json").write_text(json_lines(expected))


def block_starts() -> dict[str, int]:
    """Return the first token id of every block of the vocabulary."""
    return {
        name: getattr(VOCAB, name).start
        for name in VOCAB.__dataclass_fields__
        if hasattr(getattr(VOCAB, name), "start")
    }


# ---- checkpoints


def make_checkpoints(out: Path) -> dict[str, object]:
    """Write one small checkpoint a set of switches; return what the model makes of a prompt."""
    info = {
        "tokens_seen": 1000,
        "steps": 10,
        "controls_said": ["density", "polyphony", "velocity", "chords", "key", "style", "composer"],
        "controls": ["density", "polyphony", "velocity", "chords", "key", "style", "composer"],
        "fields": ["pitch", "rhythm", "velocity", "duration"],
        "data": {"styles": {"classical": 3}, "composers": {"Bach": 2}},
    }
    configs = {
        "infill": InfillConfig(width=16, layers=1, heads=2, dropout=0.0, max_length=1024, asked=ASKED_SIZE),
        "infill-causal": InfillConfig(
            width=8, layers=1, heads=1, dropout=0.1, max_length=512, attending="causal", coordinates=False
        ),
        "infill-micro": InfillConfig(width=8, layers=1, heads=1, max_length=512, coordinates=False, micro=True),
    }
    found = {}
    for seed, (name, config) in enumerate(configs.items()):
        model = untrained(config, seed)
        if name == "infill":
            shape = len(KINDS), len(FEATURES)
            model.pointer = PointerGate(0.1 * torch.arange(shape[0] * shape[1]).reshape(shape) / shape[1])
        save_checkpoint(out / f"{name}.safetensors", model, info=info | {"switches": name}, dtype=torch.float16)
        if name != "infill-micro":
            found[name] = outputs(out / f"{name}.safetensors")
    return found


def untrained(config: InfillConfig, seed: int) -> InfillTransformer:
    """Return a model whose every weight plays a part."""
    torch.manual_seed(seed)
    model = InfillTransformer(config)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    return model


def outputs(path: Path) -> dict[str, object]:
    """Return a prompt with a fill, and logits at the first and last token of the fill."""
    model, info = load_checkpoint(path)
    song = Song.parse(MINUET)
    region = Region.bars(song.score, 4, 5, tracks=[0])
    session = FillSession(song, region, max_length=model.config.max_length)
    prompt = session.next_prompt()
    (fill,) = Infiller.load(path).fill(song, region, seed=5, limits=limits_of(ControlSpec(max_notes_per_bar=4)))
    from harmonixr_model.tokens.infill import coordinates_of

    tokens = np.concatenate([prompt.prefix, np.asarray(fill.tokens[0])])
    coordinates = np.concatenate([prompt.coordinates, coordinates_of(prompt, fill.tokens[0])])
    with torch.no_grad():
        logits = model(
            torch.from_numpy(tokens)[None].long(),
            torch.from_numpy(coordinates)[None].long(),
            torch.tensor([len(prompt.prefix)]),
        )[0]
    return {
        "config": model.config.to_dict(),
        "info": info,
        "gate": None if model.pointer is None else rounded(model.pointer.weight_KF.flatten().tolist()),
        "weights": {name: list(weight.shape) for name, weight in model.state_dict().items()},
        "tokens": tokens.tolist(),
        "coordinates": coordinates.tolist(),
        "prefix_length": len(prompt.prefix),
        "first_logits": rounded(logits[len(prompt.prefix) - 1, ::13].tolist()),
        "last_logits": rounded(logits[-1, ::13].tolist()),
        "fill_tokens": [list(window) for window in fill.tokens],
        "midi_sha256": sha256(fill.midi),
    }


def shipped_fills() -> list[dict[str, object]]:
    """Return the likeliest fills of the shipped weights for a few gaps and ways of asking."""
    infiller, song = Infiller.load(), Song.parse(MINUET)
    cases = [
        {"region": {"bars": "5-6", "tracks": [1]}},
        {"region": {"bars": "5-6", "tracks": [1]}, "sampling": {"recall": 0.0}},
        {"region": {"bars": "13", "tracks": [1]}, "controls": {"density": 1.0, "key": "G major", "max_polyphony": 1}},
        {"region": {"bars": "9", "tracks": [1]}, "controls": {"only": "velocity"}},
    ]
    found = []
    for case in cases:
        controls = ControlSpec.model_validate(case.get("controls", {}))
        sampling = SamplingSpec.model_validate(case.get("sampling", {}) | {"temperature": 0.0})
        (fill,) = infiller.fill(
            song,
            resolve_region(RegionSpec.model_validate(case["region"]), song),
            limits=limits_of(controls),
            controls=soft_of(controls),
            only=controls.only,
            sampling=sampling_of(sampling),
        )
        found.append(
            case
            | {
                "tokens": fill.tokens,
                "midi_sha256": sha256(fill.midi),
                "log_probability": round(fill.log_probability, 4),
            }
        )
    return found


def make_reward(out: Path) -> dict[str, object]:
    """Write a reward model; return the rewards that it gives."""
    trunk, _ = load_checkpoint(out / "infill-causal.safetensors")
    torch.manual_seed(3)
    heads = RewardHeads(
        RewardConfig(trunk_width=trunk.config.width, heads=2, head_width=2, trunk_layers=1, trunk_components=2)
    )
    for weight in heads.parameters():
        torch.nn.init.normal_(weight)
    ranker = Ranker(trunk, heads, {"judgments": 12, "simulated": True})
    ranker.save(out / "reward.safetensors")
    song = Song.parse(MINUET)
    session = FillSession(song, Region.bars(song.score, 4, 5, tracks=[0]), max_length=512)
    prompt = session.next_prompt()
    fills = Infiller.load(out / "infill-causal.safetensors").fill(
        song, Region.bars(song.score, 4, 5, tracks=[0]), n=2, seed=1, limits=limits_of(ControlSpec(max_notes_per_bar=3))
    )
    rewards = ranker.score([[FilledWindow(prompt, fill.tokens[0])] for fill in fills])
    return {
        "info": ranker.info,
        "fills": [fill.tokens for fill in fills],
        "rewards": [[round(reward.mean, 5), round(reward.lower, 5)] for reward in rewards],
    }


# ---- job files


def make_configs(old: Path, out: Path) -> dict[str, object]:
    """Copy every job file, and write twins that use every key; return what some of them mean."""
    out.mkdir()
    for path in [*sorted((old / "platform/configs").glob("*.yaml")), old / "serve_config.yaml"]:
        shutil.copyfile(path, out / path.name)
    for name, values in EVERY_KEY.items():
        (out / f"every_key_{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    for kind, name in (
        (InfillJob, "train_infill"),
        (RewardJob, "train_reward"),
        (DpoJob, "train_dpo"),
        (TuneJob, "tune_infill"),
    ):
        parse_job(kind, EVERY_KEY[name], source=name)
    ServingArgs.model_validate(EVERY_KEY["serve_config"])
    read_gate(out / "every_key_gate.yaml")
    infill = parse_job(InfillJob, EVERY_KEY["train_infill"], source="fixture")
    return {
        "identity": json.loads(json.dumps(job_identity(infill))),
        "study_versions": {path.name: read_study(path).version for path in sorted(out.glob("*study*.yaml"))},
    }


# Every key of every kind of job file, each with a value that is not its default.
EVERY_KEY = {
    "train_infill": {
        "task": "infill",
        "name": "every-key",
        "composed": {"pieces": 8, "seed": 3},
        "storage": "s3://bucket/prefix",
        "context": [256, 768],
        "seed": 5,
        "model": {
            "size": "mini",
            "width": 64,
            "layers": 2,
            "heads": 4,
            "dropout": 0.25,
            "attending": "causal",
            "coordinates": False,
        },
        "data": {"passages": 1, "transposes": False, "songs_first": 0.25},
        "optimisation": {
            "steps": 7,
            "learning_rate": 0.003,
            "warmup": 3,
            "floor": 0.5,
            "weight_decay": 0.2,
            "clip": 2.0,
            "precision": "fp32",
            "validate_every": 2,
            "patience": 9,
            "loader_workers": 1,
            "compile": True,
        },
        "batching": {"batch_tokens": 2048, "micro_tokens": 512, "validation_examples": 8},
        "scaling": {"workers": 3, "parallel": "fsdp", "use_gpu": True, "cpus_per_worker": 2},
        "checkpoint_every": 11,
        "pointer_gaps": 12,
        "max_failures": 2,
        "register": True,
        "register_as": "challenger",
    },
    "train_reward": {
        "task": "reward",
        "name": "every-key",
        "trunk": "challenger",
        "storage": "s3://bucket/prefix",
        "seed": 4,
        "min_comparisons": 7,
        "held_out": 0.25,
        "held_out_raters": 0.125,
        "held_out_version": "abcd",
        "use_simulated": False,
        "heads": {"count": 3, "width": 5, "trunk_layers": 2, "trunk_components": 6, "music": False},
        "fit": {"epochs": 5, "contexts_per_batch": 6, "learning_rate": 0.01, "penalty": 0.5, "patience": 4},
        "scaling": {"workers": 2, "cpus_per_worker": 3},
        "register": False,
    },
    "train_dpo": {
        "task": "dpo",
        "name": "every-key",
        "policy": "challenger",
        "storage": "s3://bucket/prefix",
        "seed": 4,
        "min_comparisons": 7,
        "held_out": 0.25,
        "use_simulated": False,
        "pool": "songs",
        "training": {
            "epochs": 2,
            "gaps_per_step": 3,
            "learning_rate": 0.001,
            "warmup": 5,
            "clip": 0.5,
            "beta": 0.2,
            "likelihood": 0.3,
            "smoothing": 0.05,
        },
        "sampled_gaps": 3,
        "samples": 5,
        "scaling": {"workers": 2, "cpus_per_worker": 3},
        "register": False,
    },
    "tune_infill": {
        "task": "tune",
        "name": "every-key",
        "base": "train_infill_debug.yaml",
        "settings": {"optimisation.steps": 3, "batching": {"batch_tokens": 512}},
        "space": {
            "model.layers": {"choice": [1, 2]},
            "model.dropout": {"uniform": [0.0, 0.2]},
            "optimisation.learning_rate": {"loguniform": [0.001, 0.01]},
        },
        "trials": 3,
        "at_once": 2,
        "cpus_per_trial": 2,
        "gpus_per_trial": 0.5,
        "grace_steps": 2,
        "reduction": 4,
        "storage": "s3://bucket/prefix",
        "seed": 6,
    },
    "gate": {
        "task": "gate",
        "use_simulated": True,
        "pool": "songs",
        "level": 0.9,
        "min_win_rate": 0.55,
        "min_judgments": 7,
        "max_likelihood_loss": 0.5,
        "min_valid": 0.5,
        "max_latency_ratio": 2.5,
        "min_diversity_ratio": 0.25,
        "gaps": 5,
        "fills": 2,
        "max_context": 300,
        "seed": 9,
    },
    "study": {
        "name": "every-key",
        "title": "Every key",
        "question": "Which one?",
        "consent": "2",
        "retention_days": 30,
        "contexts": {
            "songs": ["a.mid"],
            "gaps": {"per_song": 2, "min_bars": 2, "max_bars": 3, "one_track": 0.5},
            "seed": 4,
        },
        "arms": [
            {"name": "cool", "model": "champion", "sampling": {"temperature": 0.8, "top_k": 9, "top_p": 0.9}},
            {"name": "warm", "model": "challenger", "sampling": {"recall": 0.5, "guidance": 1.5}},
        ],
        "controls": ALL_CONTROLS,
        "fills": {"per_arm": 2, "within_arm": True},
        "quotas": {"raters_per_pair": 3, "most_per_pair": 5, "per_rater": 12},
        "repeats": {"share": 0.2, "after": 3},
        "gold": {"share": 0.2, "pairs": 4, "identical": 0.5},
        "scheduling": {"epsilon": 0.2, "unanswered_s": 60},
        "stopping": {"most_judgments": 50, "margin": 0.1, "answers_each": 5},
    },
    "serve_config": {
        "deadline_s": 30,
        "max_midi_bytes": 2048,
        "max_waiting": 64,
        "caller_waiting": 32,
        "retry_after_s": 5,
        "threads": 2,
        "loaded_models": 3,
        "rows": 16,
        "caller_rows": 8,
        "cache_tokens": 2048,
        "waiting_tokens": 4096,
        "caller_waiting_tokens": 2048,
        "compiled": False,
        "alias_refresh_s": 1.0,
        "remembered_answers": 8,
        "remembered_bytes": 1024,
        "recalled_answers": 16,
        "recalled_s": 60,
        "remembered_sounds": 8,
        "near_midi_bytes": 0,
        "model_line": False,
        "mover_interval_s": 1.0,
    },
}


# ---- corpus and training state


def make_corpus(out: Path) -> dict[str, object]:
    """Write a corpus, an interrupted run on it, and what both give."""
    folder = write_composed_corpus(out / "corpus", pieces=4, seed=7, bars=6)
    corpus = Corpus.open(folder)
    dataset = InfillDataset(corpus, DatasetConfig(max_tokens=256, augments=False, controlled=0.0))
    example = dataset.example(2, step=3, seed=4)
    controlled = InfillDataset(corpus, DatasetConfig(max_tokens=256, controlled=1.0)).example(1, step=2, seed=9)
    found = {
        "pieces": [asdict(corpus.piece(index)) for index in range(len(corpus))],
        "notes": [
            [list(note[:4]) for track in corpus.score(index).tracks for note in track.notes] for index in range(2)
        ],
        "example": [sha256(field.tobytes()) for field in (example.tokens, example.coordinates, example.loss_mask)],
        "controlled": [
            sha256(field.tobytes()) for field in (controlled.tokens, controlled.coordinates, controlled.loss_mask)
        ],
        "losses": train(folder, out),
    }
    pack(folder, out / "corpus.zip")
    return found


def train(corpus: Path, out: Path) -> list[float]:
    """Train a tiny model for four steps; keep the state after two and return the losses of the last two."""
    job = SingleJob(
        corpus=corpus,
        out=out / "run",
        model=InfillConfig(width=8, layers=1, heads=1, dropout=0.0, max_length=256, coordinates=False),
        loop=LoopConfig(steps=4, learning_rate=0.01, warmup=1, validate_every=2, precision="fp32"),
        batch=BatchConfig(batch_tokens=256, micro_tokens=256, validation_examples=1),
        context=(256,),
        songs_first=0.25,
    )
    done = 0

    def is_interrupted() -> bool:
        nonlocal done
        done += 1
        return done == 2

    list(run_single(job, is_interrupted=is_interrupted))
    shutil.copyfile(out / "run" / "state.pt", out / "state.pt")
    losses = [progress.loss for progress in run_single(job)]
    shutil.copyfile(out / "run" / "metrics.jsonl", out / "metrics.jsonl")
    shutil.rmtree(out / "run")
    with zipfile.ZipFile(out / "training.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.write(out / "state.pt", "state.pt")
    (out / "state.pt").unlink()
    return rounded(losses)


# ---- stores, registry and Redis of a service


def make_state(out: Path) -> dict[str, object]:
    """Write the state folder of a service that registered models, ran a study and was stopped."""
    settings = Settings(state_dir=out / "state", rater_secret=SECRET)
    clock = Clock()
    found: dict[str, object] = {"now": NOW.isoformat(), "secret": SECRET, "registry": make_registry(settings, out)}
    store = open_object_store(settings)
    stream = open_stream(settings)
    service = FeedbackService(stream, store, secret=SECRET.encode(), rng=random.Random(1), now=clock)
    shipped = Contestant(
        Infiller.load(), sha256(shipped_weights().read_bytes())[:12], sha256(shipped_weights().read_bytes())
    )
    make_pool(store, shipped)
    begun = make_study(store, out, clock)
    own = [service.pairs.put(pair) for pair in own_pairs(shipped)]
    earlier = strip_later_fields(store, own[0].pair_id)
    listen(service, clock, begun, own)
    JudgmentLog(stream)
    flag(stream, store, clock)
    Mover(stream, store, consumer="fixture").run_once()
    StudyStore(store).close(begun.study.name, reason="the fixture is done", now=clock())
    found["open"] = after_the_move(service, clock)
    snapshot = back_up(store, FileStore(out / "backup"), now=clock())
    shutil.copyfile(out / "backup" / "backups" / f"{snapshot.name}.json", out / "backup.json")
    feedback = read_feedback(store)
    manifest = export_dataset(feedback, out / "export", study="temperatures", begun=begun, now=clock())
    everything = export_dataset(feedback, out / "everything", study=None, begun=None, now=clock())
    found |= {
        "earlier_pair": earlier,
        "backup": snapshot.name,
        "study_version": begun.study.version,
        "counts": dict(feedback.counts),
        "data_hash": feedback.data_hash,
        "outcomes": {judged.judgment.judgment_id: judged.outcome for judged in feedback.judged},
        "dataset_id": manifest.dataset_id,
        "dataset_id_of_all": everything.dataset_id,
        "jsonl_sha256": {file.name: file.sha256 for file in manifest.files if file.name.endswith(".jsonl")},
        "columns": {name: columns(out / "export" / f"{name}.jsonl") for name in ("judgments", "pairs")},
        "stream": [[entry, fields["record"]] for entry, fields in raw_stream(stream)],
        "tallies": {
            pool: {key: asdict(value) for key, value in JudgmentLog(stream).tally(pool).items()}
            for pool in ("songs", "temperatures", "own")
        },
    }
    (out / "export" / "judgments.parquet").unlink()
    shutil.copyfile(out / "export" / "manifest.json", out / "export_manifest.json")
    service.close()
    for folder in ("export", "everything", "backup"):
        shutil.rmtree(out / folder)
    for name in ("redis.log", "start.lock", "server.lock"):
        (out / "state" / "redis" / name).unlink(missing_ok=True)
    shutil.rmtree(out / "state" / "cache", ignore_errors=True)
    interfaces = record_interfaces(out, out / "state")
    (out / "interfaces.json").write_text(json_lines(interfaces))
    pack(out / "state", out / "state.zip")
    return found


class Clock:
    """Time that passes by ten seconds a reading."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=10)
        return self.now


def make_registry(settings: Settings, out: Path) -> dict[str, object]:
    """Register two infill models and a reward model, and move the aliases."""
    registry = open_registry(settings)
    lineage = Lineage(
        data={"name": "corpus", "licence": "ours"},
        config={"task": "infill"},
        code="52ae6f1",
        metrics={"valid": 1.5},
        parents=("infill/0123456789ab",),
        note="fixture",
    )
    first = registry.register("infill", out / "infill.safetensors", lineage)
    second = registry.register("infill", out / "infill-causal.safetensors", Lineage(note="second"))
    reward = registry.register("reward", out / "reward.safetensors", Lineage(note="reward"))
    registry.set_alias("infill", "champion", first.version, expected=None, reason="first")
    registry.set_alias("infill", "challenger", second.version, expected=None)
    check = Check(name="win_rate", passed=True, measured=0.6, wanted=0.5, sentence="chosen over the champion")
    promotion = Promotion(
        name="infill",
        alias="champion",
        version=second.version,
        champion=first.version,
        promoted=True,
        checks=(check,),
        evidence={"win_rate": {"rate": 0.6}},
        data="0" * 64,
        gate={"level": 0.95},
        simulated=True,
        code="52ae6f1",
        decided=NOW,
    )
    refused = promotion.model_copy(update={"promoted": False, "checks": (check.model_copy(update={"passed": False}),)})
    registry.decide(refused)
    registry.decide(promotion)
    registry.rollback("infill", reason="it was worse")
    registry.promote("reward", reward.version, reason="the only one")
    held = registry.alias("infill", "champion")
    return {
        "infill": [first.version, second.version],
        "reward": [reward.version],
        "lineage": lineage.model_dump(mode="json"),
        "champion": {"stack": held.stack, "history": [[move.version, move.reason] for move in held.history]},
        "promotions": sorted([promotion.promotion_id, refused.promotion_id]),
        "sha256": {v.version: v.sha256 for v in (first, second, reward)},
    }


def make_pool(store, shipped: Contestant) -> None:
    """Make a bare pool of the shipped weights' fills."""
    pieces = [Piece.of(compose_song(0, bars=8)), Piece.of(MINUET)]
    made = list(build_pool(store, pieces, pool="songs", contestants=[shipped], pairs=4, seed=1))
    assert all(hasattr(pair, "pair_id") for pair in made), made


def make_study(store, out: Path, clock: Clock) -> Begun:
    """Begin a study of two arms with the small models."""
    study = parse_study(
        {
            "name": "temperatures",
            "title": "Cooler or warmer",
            "consent": "1",
            "contexts": {"gaps": {"per_song": 3, "max_bars": 1, "one_track": 1.0}, "seed": 2},
            "arms": [
                {"name": "cool", "sampling": {"temperature": 0.8, "recall": 0.5}},
                {"name": "warm", "model": "challenger", "sampling": {"temperature": 1.2, "top_k": 40, "top_p": 0.9}},
            ],
            "controls": {"max_notes_per_bar": 4, "velocity_min": 20},
            "quotas": {"raters_per_pair": 2, "per_rater": 6},
            "repeats": {"share": 0.2, "after": 1},
            "gold": {"share": 0.2, "pairs": 3, "identical": 0.4},
        },
        source="fixture",
    )
    contestants = {}
    for arm, name in (("cool", "infill"), ("warm", "infill-causal")):
        digest = sha256((out / f"{name}.safetensors").read_bytes())
        contestants[arm] = Contestant(Infiller.load(out / f"{name}.safetensors"), digest[:12], digest)
    pieces = [Piece.of(compose_song(seed, bars=6)) for seed in (3, 4)]
    *_, begun = begin_study(store, study, pieces, contestants=contestants, now=clock())
    assert isinstance(begun, Begun), begun
    return begun


def own_pairs(shipped: Contestant):
    """Yield pairs of listeners' own gaps: plain, with every control, and of one field."""
    for region, controls, sampling in (
        ({"beats": "13-15", "tracks": [1]}, {}, {}),
        (
            {"ticks": [5760, 11520], "tracks": [2], "pitch_low": 30, "pitch_high": 80},
            ALL_CONTROLS,
            {"recall": 0.25, "guidance": 1.5, "top_k": 50},
        ),
        ({"bars": "3", "tracks": [1]}, {"only": "velocity", "velocity_min": 40}, {}),
        ({"continue_bars": 1, "tracks": [1]}, {"density": 2.0}, {"guidance": 3.0}),
    ):
        song, spec = Song.parse(MINUET), RegionSpec.model_validate(region)
        control = ControlSpec.model_validate(controls)
        drawn = SamplingSpec.model_validate(sampling).for_comparing()
        fills = shipped.infiller.fill(
            song,
            resolve_region(spec, song),
            limits=limits_of(control),
            controls=soft_of(control),
            only=control.only,
            n=2,
            seed=11,
            sampling=sampling_of(drawn),
        )
        sides = [candidate_of(fill, shipped, drawn.model_copy(update={"seed": fill.seed})) for fill in fills]
        yield make_pair(MINUET, piece_id="minuet", region=spec, controls=control, first=sides[0], second=sides[1])


def strip_later_fields(store, pair_id: str) -> str:
    """Store a pair as it was before there were the fields that content hashes leave out while they are at defaults."""
    key = f"feedback/pairs/{pair_id}.json"
    pair = json.loads(store.get(key).data)
    for name in ControlSpec.later_fields:
        pair["controls"].pop(name)
    for side in ("first", "second"):
        # `recall` was set when the pair was made, so only `guidance` may be left out.
        pair[side]["sampling"].pop("guidance")
    store.put(key, json.dumps(pair).encode())
    return pair_id


def listen(service: FeedbackService, clock: Clock, begun: Begun, own) -> None:
    """Let listeners judge: every choice, tags, comments, consent, a retraction, an erasure."""
    answers = [
        {"choice": "a", "strength": 2, "tags": ["timing", "seam"]},
        {"choice": "b", "strength": 1, "comment": "häßlich"},
        {"choice": "tie"},
        {"choice": "both_bad", "tags": ["boring", "harmony", "out_of_style"]},
        {"choice": "skip"},
    ]
    for rater in range(3):
        for number in range(5):
            judge(service, clock, f"listener-{rater}", "temperatures", answers[(number + rater) % 5])
    for number in range(3):
        judge(service, clock, "listener-0", "songs", answers[number] | {"simulated": True})
    for pair in own:
        view = service.create_comparison(own_request(), own=pair)
        answer(service, clock, "listener-1", view, {"choice": "b"})
    for name in ("takes-it-back", "is-erased"):
        judge(service, clock, name, "songs", {"choice": "a"})
    service.retract("judgment-takes-it-back-songs-0", rater_key="takes-it-back", retraction_id="retraction-1")
    service.erase("is-erased")


def own_request() -> ComparisonRequest:
    """Return a request for a pair of a listener's own gap."""
    infill = {"midi_base64": base64.b64encode(MINUET).decode(), "region": {"bars": "3", "tracks": [1]}}
    return ComparisonRequest.model_validate({"rater_key": "listener-1", "infill": infill})


ANSWERED: dict[str, int] = {}


def judge(service: FeedbackService, clock: Clock, rater: str, pool: str, content: dict[str, object]) -> JudgmentRequest:
    """Show a pair of a pool to a rater and record the answer."""
    view = service.create_comparison(ComparisonRequest(rater_key=rater, pool=pool))
    return answer(service, clock, rater, view, content, pool=pool)


def answer(
    service, clock: Clock, rater: str, view, content: dict[str, object], *, pool: str = "own"
) -> JudgmentRequest:
    """Record an answer to a view."""
    number = ANSWERED.setdefault(f"{rater}-{pool}", 0)
    ANSWERED[f"{rater}-{pool}"] += 1
    length = view.end_s - view.start_s
    clock.now += timedelta(seconds=2 * length)
    heard = [(view.start_s, view.end_s)]
    request = JudgmentRequest.model_validate(
        {
            "judgment_id": f"judgment-{rater}-{pool}-{number}",
            "comparison_id": view.comparison_id,
            "token": view.token,
            "rater_key": rater,
            "listening": {
                "intervals_a": heard,
                "intervals_b": heard,
                "seconds": 2 * length,
                "switches": 3,
                "headphones": "passed",
            },
            "consent": {"version": "1", "given": NOW.isoformat()},
        }
        | content
    )
    service.record_judgment(request)
    return request


def flag(stream, store, clock: Clock) -> None:
    """Record a flag, move everything, and erase another rater, which makes a manifest void."""
    judgment = "judgment-listener-2-temperatures-0"
    flags = [Flag(flag_id="flag-1", judgment_id=judgment, rule="one_side", rule_version=1, received=clock())]
    flags += [Flag(flag_id="flag-2", judgment_id=judgment, rule="another_tool", rule_version=7, received=clock())]
    assert record_flags(JudgmentLog(stream), flags) == 2
    Mover(stream, store, consumer="fixture").run_once()
    eraser = Eraser(stream, store, secret=SECRET.encode())
    eraser.erase(eraser.pseudonym("is-erased"), now=clock())


def after_the_move(service: FeedbackService, clock: Clock) -> dict[str, object]:
    """Leave two judgments in the stream and a comparison open."""
    request = judge(service, clock, "listener-3", "songs", {"choice": "a", "tags": ["seam"]})
    judge(service, clock, "listener-3", "songs", {"choice": "tie"})
    view = service.create_comparison(ComparisonRequest(rater_key="listener-3", pool="songs"))
    return {
        "request": json.loads(request.model_dump_json()),
        "view": json.loads(view.model_dump_json(exclude={"a": {"notes"}, "b": {"notes"}, "context_base64": True})),
        "at": clock.now.isoformat(),
    }


def raw_stream(stream):
    """Return the entries of the Redis stream as they are."""
    return stream._run(lambda client: client.xrange(stream.name))


def columns(path: Path) -> list[str]:
    """Return the names of a table's columns."""
    return sorted(json.loads(path.read_text().splitlines()[0]))


# ---- small things


def pack(folder: Path, archive: Path) -> None:
    """Move a folder into a zip archive."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_file() and not any(part in (".locks", ".drafts") for part in inside.parts):
                packed.write(path, inside.as_posix())
    shutil.rmtree(folder)


def json_lines(values: dict[str, object]) -> str:
    """Return JSON with a line for each of the outermost names."""
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(values.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def sha256(data: bytes) -> str:
    """Return the hash of some bytes."""
    return hashlib.sha256(data).hexdigest()


def rounded(values: list[float]) -> list[float]:
    """Return numbers with five digits after the point."""
    return [round(value, 5) for value in values]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
