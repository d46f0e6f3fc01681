"""Everything that version 0.1.0 wrote is read by this version: see make_v0_1_0.py for how the fixtures were made."""

import base64
import hashlib
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from harmonixr_model import examples
from harmonixr_model.data.corpus import Corpus
from harmonixr_model.data.dataset import DatasetConfig, InfillDataset
from harmonixr_model.errors import CheckpointError
from harmonixr_model.fill.infiller import Infiller
from harmonixr_model.fill.ranker import FilledWindow, Ranker
from harmonixr_model.fill.session import FillSession
from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.music.compose import compose_song
from harmonixr_model.music.song import Song
from harmonixr_model.music.write import write_midi
from harmonixr_model.notes.text import from_text
from harmonixr_model.notes.tokenizer import decode
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_model.training.infill_task import BatchConfig
from harmonixr_model.training.local_run import LocalJob, run_local
from harmonixr_model.training.loop import LoopConfig
from harmonixr_platform.cli import main
from harmonixr_platform.feedback.records.backup import restore
from harmonixr_platform.feedback.records.pairs import PairStore, pair_hash
from harmonixr_platform.feedback.records.pools import PoolStore
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.reports.export import export_dataset
from harmonixr_platform.feedback.reports.flags import flagged_judgments
from harmonixr_platform.feedback.studies.definition import parse_study, read_study
from harmonixr_platform.feedback.studies.pool_pairs import FillModel, Piece
from harmonixr_platform.feedback.studies.store import StudyStore
from harmonixr_platform.feedback.studies.study_pairs import begin_study
from harmonixr_platform.registry import open_registry
from harmonixr_platform.requests import attribute_controls_of, constraints_of, resolve_region, sampling_of
from harmonixr_platform.schemas import ControlSpec, RegionSpec, SamplingSpec
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.training.config import InfillJob, JobError, parse_job, read_job_file
from harmonixr_platform.training.infill_job import _identity
from harmonixr_platform.training.preference_config import DpoJob, RewardJob
from harmonixr_platform.training.promotion_gate import read_gate
from harmonixr_platform.training.tune_config import TuneJob

FIXTURES = Path(__file__).parent / "v0_1_0"
CONFIGS = FIXTURES / "configs"
MINUET = examples.load("minuet-in-g")
JOBS = {"infill": InfillJob, "reward": RewardJob, "dpo": DpoJob, "tune": TuneJob}
# Keys that are still accepted although the feature was removed on purpose.
WITHOUT_EFFECT = {("model_line",)}
SHIPPED_CASES = json.loads((FIXTURES / "expected.json").read_text())["shipped"]


@pytest.fixture(scope="module")
def pairs(store):
    ids = [Path(key).stem for key in store.list("feedback/pairs/")]
    assert len(ids) == 17
    return [PairStore(store).get(pair_id) for pair_id in ids]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def refusal(call):
    """Return None where the call succeeds, "micro" where the refusal names micro, else the whole refusal."""
    try:
        call()
    except (JobError, CheckpointError) as error:
        return "micro" if "micro" in str(error).lower() else str(error)
    return None


# ---- vocabulary, checkpoints, token text


def test_every_token_keeps_its_name_and_id(expected):
    assert str(VOCAB.hash) == expected["vocabulary_hash"]
    assert [VOCAB.name(token) for token in range(VOCAB.size)] == (FIXTURES / "vocabulary.txt").read_text().splitlines()


def test_token_text_gives_the_same_file(expected):
    assert sha256(write_midi(decode(from_text((FIXTURES / "minuet.txt").read_text())))) == expected["token_text"]


@pytest.mark.parametrize("name", ["infill", "infill-causal"])
def test_a_checkpoint_gives_the_same_config_and_logits(name, expected):
    wanted = expected["checkpoints"][name]
    model, info = load_checkpoint(FIXTURES / f"{name}.safetensors")
    assert model.config.to_dict() == wanted["config"]
    assert info == wanted["info"]
    assert {key: list(weight.shape) for key, weight in model.state_dict().items()} == wanted["weights"]
    with torch.no_grad():
        logits = model(
            torch.tensor(wanted["tokens"])[None],
            torch.tensor(wanted["coordinates"])[None],
            torch.tensor([wanted["prefix_length"]]),
        )[0]
    np.testing.assert_allclose(logits[wanted["prefix_length"] - 1, ::13], wanted["first_logits"], atol=2e-4)
    np.testing.assert_allclose(logits[-1, ::13], wanted["last_logits"], atol=2e-4)


@pytest.mark.parametrize("name", ["infill", "infill-causal"])
def test_a_checkpoint_fills_a_gap_as_before(name, expected):
    """The same prompt tokens, copy gate, grammar and random numbers."""
    wanted = expected["checkpoints"][name]
    song = Song.parse(MINUET)
    region = resolve_region(RegionSpec(bars="5-6", tracks=[1]), song)
    infiller = Infiller.load(FIXTURES / f"{name}.safetensors")
    (fill,) = infiller.fill(song, region, seed=5, constraints=constraints_of(ControlSpec(max_notes_per_bar=4)))
    assert [list(window) for window in fill.tokens] == wanted["fill_tokens"]
    assert sha256(fill.midi) == wanted["midi_sha256"]


def test_a_model_with_micro_tokens_is_read_or_refused_by_name():
    assert refusal(lambda: load_checkpoint(FIXTURES / "infill-micro.safetensors")) in (None, "micro")


@pytest.mark.parametrize("case", SHIPPED_CASES, ids=lambda case: json.dumps(case.get("controls", {})))
def test_the_shipped_weights_make_the_same_likeliest_fill(case, shipped):
    song, controls = Song.parse(MINUET), ControlSpec.model_validate(case.get("controls", {}))
    sampling = SamplingSpec.model_validate(case.get("sampling", {}) | {"temperature": 0.0})
    (fill,) = shipped.fill(
        song,
        resolve_region(RegionSpec.model_validate(case["region"]), song),
        constraints=constraints_of(controls),
        controls=attribute_controls_of(controls),
        field=controls.only,
        sampling=sampling_of(sampling),
    )
    assert [list(window) for window in fill.tokens] == case["tokens"]
    assert sha256(fill.midi) == case["midi_sha256"]
    assert fill.log_probability == pytest.approx(case["log_probability"], abs=1e-2)


def test_a_reward_model_ranks_fills_as_before(expected):
    wanted, song = expected["reward"], Song.parse(MINUET)
    ranker = Ranker.load(FIXTURES / "reward.safetensors")
    assert ranker.info == wanted["info"]
    region = resolve_region(RegionSpec(bars="5-6", tracks=[1]), song)
    prompt = FillSession(song, region, max_length=512).next_prompt()
    rewards = ranker.score([[FilledWindow(prompt, tokens[0])] for tokens in wanted["fills"]])
    np.testing.assert_allclose([[reward.mean, reward.lower] for reward in rewards], wanted["rewards"], atol=1e-3)


# ---- feedback


def test_every_pair_is_read_and_named_by_the_same_hash(pairs, expected):
    for pair in pairs:
        assert pair_hash(pair) == pair.pair_id
        assert pair.vocabulary_hash == expected["vocabulary_hash"]
    assert expected["state"]["earlier_pair"] in {pair.pair_id for pair in pairs}


def test_a_pair_is_written_under_the_same_names(pairs, store):
    """What this version writes, 0.1.0 could read, but for pairs that are older than some of their fields."""
    for pair in pairs:
        held = json.loads(store.get(f"feedback/pairs/{pair.pair_id}.json").data)
        written = json.loads(pair.model_dump_json())
        assert written.keys() == held.keys()
        assert all(written[name].items() >= held[name].items() for name in ("region", "controls"))
        for side in ("first", "second"):
            assert written[side]["sampling"].items() >= held[side]["sampling"].items()
            assert written[side] | {"sampling": {}} == held[side] | {"sampling": {}}


def test_the_tokens_of_every_candidate_give_the_same_file(pairs, shipped):
    for pair in pairs:
        song = Song.parse(base64.b64decode(pair.context_base64))
        region = resolve_region(pair.region, song)
        limits, soft = constraints_of(pair.controls), attribute_controls_of(pair.controls)
        for side in (pair.first, pair.second):
            midi = base64.b64decode(side.midi_base64)
            assert sha256(midi) == side.midi_sha256
            if side.model_version != "broken":
                fill = shipped.replay(
                    song, region, side.tokens, constraints=limits, controls=soft, field=pair.controls.only
                )
                assert fill.midi == midi


def test_judgments_count_as_before(store, expected):
    feedback, wanted = read_feedback(store), expected["state"]
    assert dict(feedback.counts) == wanted["counts"]
    assert {one.judgment.judgment_id: one.outcome for one in feedback.judged} == wanted["outcomes"]
    assert feedback.data_hash == wanted["data_hash"]


def test_a_recorded_flag_still_names_a_rule(store):
    flags = read_feedback(store).flags
    assert {flag.rule for flag in flags} == {"one_side", "another_tool"}
    # A later version of the rule would not count this flag, an unknown rule always counts.
    outdated = [flag.model_copy(update={"rule_version": 0}) for flag in flags if flag.rule == "one_side"]
    assert flagged_judgments(outdated) == set()
    assert flagged_judgments(flags) == {"judgment-listener-2-temperatures-0"}


def test_an_export_has_the_same_dataset_id(store, expected, tmp_path):
    feedback, wanted = read_feedback(store), expected["state"]
    begun, now = StudyStore(store).need("temperatures"), datetime(2091, 1, 1, tzinfo=UTC)
    manifest = export_dataset(feedback, tmp_path / "study", study="temperatures", begun=begun, now=now)
    everything = export_dataset(feedback, tmp_path / "all", study=None, begun=None, now=now)
    assert (manifest.dataset_id, everything.dataset_id) == (wanted["dataset_id"], wanted["dataset_id_of_all"])
    written = json.loads((tmp_path / "study" / "manifest.json").read_text())
    before = json.loads((FIXTURES / "export_manifest.json").read_text())
    assert written.keys() == before.keys()
    assert written["counts"] == before["counts"]
    assert {file["name"]: file["sha256"] for file in written["files"]}.items() >= wanted["jsonl_sha256"].items()
    for name, columns in wanted["columns"].items():
        assert sorted(json.loads((tmp_path / "study" / f"{name}.jsonl").read_text().splitlines()[0])) == columns


def test_a_study_and_a_pool_are_read_with_their_pairs(store, pairs, expected):
    begun = StudyStore(store).need("temperatures")
    assert begun.study.version == expected["state"]["study_version"]
    known = {pair.pair_id for pair in pairs}
    assert {pair.pair_id for pair in begun.pairs} < known
    assert {gold.pair_id for gold in begun.gold} < known
    assert {gold.expected for gold in begun.gold} <= {"first", "second", "tie"}
    assert StudyStore(store).closed("temperatures").reason == "the fixture is done"
    assert PoolStore(store).names() == ("songs",)
    assert len(PoolStore(store).pair_ids("songs")) == 4


def test_a_study_whose_making_was_cut_off_goes_on_with_what_was_made(store, tmp_path):
    """The same gaps under the same names, and the same gold pairs; no model is needed."""
    cut_off = FileStore(tmp_path)
    for key in store.list("feedback/"):
        if not key.startswith("feedback/studies/"):
            cut_off.put(key, store.get(key).data)
    before = StudyStore(store).need("temperatures")
    models = {arm: FillModel(None, version, "") for arm, version in before.models.items()}
    pieces = [Piece.of(compose_song(seed, bars=6)) for seed in (3, 4)]
    *_, begun = begin_study(cut_off, before.study, pieces, models=models, now=before.begun)
    assert begun == before


def test_a_backup_is_restored(store, expected, tmp_path):
    backup, restored = FileStore(tmp_path / "backup"), FileStore(tmp_path / "restored")
    backup.put(f"backups/{expected['state']['backup']}.json", (FIXTURES / "backup.json").read_bytes())
    for key in store.list("feedback/"):
        data = store.get(key).data
        backup.put(f"blobs/{sha256(data)}", data)
    restore(backup, restored)
    assert read_feedback(restored).data_hash == expected["state"]["data_hash"]
    assert restored.list() == store.list("feedback/")


# ---- registry


def test_the_registry_is_read_with_its_history(settings, expected):
    registry, wanted = open_registry(settings), expected["state"]["registry"]
    assert [version.version for version in registry.versions("infill")] == wanted["infill"]
    assert registry.resolve("infill", wanted["infill"][0]).lineage.model_dump(mode="json") == wanted["lineage"]
    champion = registry.alias("infill", "champion")
    assert list(champion.stack) == wanted["champion"]["stack"]
    assert [[move.version, move.reason] for move in champion.history] == wanted["champion"]["history"]
    assert registry.resolve("infill", "challenger").version == wanted["infill"][1]
    assert registry.resolve("reward").version == wanted["reward"][0]
    promotions = registry.promotions("infill")
    assert sorted(promotion.promotion_id for promotion in promotions) == wanted["promotions"]
    assert sorted(promotion.promoted for promotion in promotions) == [False, True]
    for name in ("infill", "reward"):
        for version in registry.versions(name):
            assert sha256(registry.fetch(version).read_bytes()) == wanted["sha256"][version.version]


# ---- corpus and training


def test_a_corpus_gives_the_same_pieces_and_examples(unpack, expected):
    corpus, wanted = Corpus.open(unpack("corpus.zip")), expected["corpus"]
    for index, piece in enumerate(wanted["pieces"]):
        held = corpus.piece(index)
        assert {name: getattr(held, name) for name in piece} == {
            name: tuple(value) if isinstance(value, list) else value for name, value in piece.items()
        }
    for index, notes in enumerate(wanted["notes"]):
        assert [list(note[:4]) for track in corpus.score(index).tracks for note in track.notes] == notes
    plain = InfillDataset(corpus, DatasetConfig(max_tokens=256, augments=False, control_share=0.0))
    assert hashes(plain.example(2, step=3, seed=4)) == wanted["example"]
    controlled = InfillDataset(corpus, DatasetConfig(max_tokens=256, control_share=1.0))
    assert hashes(controlled.example(1, step=2, seed=9)) == wanted["controlled"]


def hashes(example):
    return [sha256(field.tobytes()) for field in (example.tokens, example.coordinates, example.loss_mask)]


@pytest.mark.parametrize("measure", ["loss", "bits_per_note"])
@pytest.mark.parametrize("against", ["step", "tokens"])
def test_the_metrics_of_a_run_are_drawn(measure, against, tmp_path):
    picture, metrics = tmp_path / "run.svg", FIXTURES / "metrics.jsonl"
    options = ["--measure", measure, "--against", against, "-o", str(picture)]
    assert main(["plot", "loss", str(metrics), *options]) == 0
    assert "<svg" in picture.read_text()


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(unpack, expected, tmp_path):
    job = LocalJob(
        corpus=unpack("corpus.zip"),
        out=tmp_path,
        model=InfillConfig(width=8, layers=1, heads=1, dropout=0.0, max_length=256, coordinates=False),
        loop=LoopConfig(steps=4, learning_rate=0.01, warmup=1, validate_every=2, precision="fp32"),
        batch=BatchConfig(batch_tokens=256, micro_tokens=256, validation_examples=1),
        context=(256,),
        songs_first=0.25,
    )
    with zipfile.ZipFile(FIXTURES / "training.zip") as archive:
        archive.extractall(tmp_path)
    losses = [progress.loss for progress in run_local(job)]
    np.testing.assert_allclose(losses, expected["corpus"]["losses"], atol=1e-3)
    _, info = load_checkpoint(job.checkpoint)
    assert info.keys() >= {"tokens_seen", "steps", "controls_said", "controls", "fields", "training", "data"}


# ---- job files


def test_every_job_file_is_read():
    found = set()
    for path in sorted(CONFIGS.glob("*.yaml")):
        kind = JOBS.get(read_job_file(path).get("task"))
        if kind is not None:
            found.add(kind)
            parse_job(kind, read_job_file(path), source=path.name)
    assert found == set(JOBS.values())


@pytest.mark.parametrize(
    "name", ["train_infill", "train_reward", "train_dpo", "tune_infill", "gate", "study", "serve_config"]
)
def test_every_key_of_a_job_file_still_has_its_effect(name, tmp_path):
    """Leaving a key out changes what is read: a key under its old name is not only accepted but used."""
    values = yaml.safe_load((CONFIGS / f"every_key_{name}.yaml").read_text())
    whole = parsed(name, values, tmp_path)
    for place in leaves(values):
        if place == ("model_line",):
            continue  # still read; its feature, a private socket to the Model stage, is removed
        try:
            other = parsed(name, without(values, place), tmp_path)
        except (JobError, ValueError):
            continue  # required, or needed by another key
        assert other != whole or place in WITHOUT_EFFECT, f"{name}: {'.'.join(map(str, place))} changes nothing"


def parsed(name, values, folder):
    if name == "serve_config":
        return ServingArgs.model_validate(values)
    if name == "study":
        return parse_study(values, source=name)
    if name == "gate":
        (folder / "gate.yaml").write_text(yaml.safe_dump(values))
        return read_gate(folder / "gate.yaml")
    return parse_job(JOBS[values["task"]], values, source=name)


def leaves(values, place=()):
    for key, value in values.items():
        if isinstance(value, dict) and key not in ("space", "settings"):
            yield from leaves(value, (*place, key))
        elif key != "task":
            yield (*place, key)


def without(values, place):
    first, *rest = place
    return {
        key: without(value, rest) if key == first else value for key, value in values.items() if key != first or rest
    }


def test_what_decides_a_run_is_named_as_in_the_runs_begun_before(expected):
    job = parse_job(InfillJob, read_job_file(CONFIGS / "every_key_train_infill.yaml"), source="fixture")
    assert json.loads(json.dumps(_identity(job))) == expected["configs"]["identity"]


def test_studies_keep_their_versions(expected):
    found = {path.name: read_study(path).version for path in sorted(CONFIGS.glob("*study*.yaml"))}
    assert found == expected["configs"]["study_versions"]


def test_the_gate_and_the_serving_arguments_are_read():
    assert read_gate(CONFIGS / "gate.yaml").min_judgments == 50
    (application,) = yaml.safe_load((CONFIGS / "serve_config.yaml").read_text())["applications"]
    ServingArgs.model_validate(application["args"])


def test_micro_is_accepted_where_it_is_off_and_else_named():
    without_it = parse_job(InfillJob, read_job_file(CONFIGS / "train_infill_debug.yaml"), source="job")
    values = read_job_file(CONFIGS / "train_infill_debug.yaml", ["model.micro=false"])
    assert parse_job(InfillJob, values, source="job").architecture() == without_it.architecture()
    values["model"]["micro"] = True
    assert refusal(lambda: parse_job(InfillJob, values, source="job").architecture()) in (None, "micro")
