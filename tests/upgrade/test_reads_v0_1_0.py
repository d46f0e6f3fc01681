"""Everything that version 0.1.0 wrote is read by this version: see make_v0_1_0.py for how the fixtures were made."""

import base64
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from harmonixr_model import examples
from harmonixr_model.errors import CheckpointError
from harmonixr_model.fill.infiller import Infiller
from harmonixr_model.fill.ranker import Ranker
from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_model.music.song import Song
from harmonixr_model.notes.vocabulary import VOCAB
from harmonixr_platform.feedback.records.pairs import PairStore, pair_hash
from harmonixr_platform.feedback.records.reader import read_feedback
from harmonixr_platform.feedback.studies.definition import read_study
from harmonixr_platform.feedback.studies.store import StudyStore
from harmonixr_platform.requests import limits_of, resolve_region, sampling_of, soft_of
from harmonixr_platform.schemas import ControlSpec, RegionSpec, SamplingSpec
from harmonixr_platform.serving.arguments import ServingArgs
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.files import FileStore
from harmonixr_platform.training.config import InfillJob, JobError, TuneJob, parse_job, read_job_file
from harmonixr_platform.training.dpo_config import DpoJob
from harmonixr_platform.training.infill_job import _identity
from harmonixr_platform.training.promotion_gate import read_gate
from harmonixr_platform.training.reward_config import RewardJob

FIXTURES = Path(__file__).parent / "v0_1_0"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
STATE = EXPECTED["state"]
CONFIGS = FIXTURES / "configs"
MINUET = examples.load("minuet-in-g")
JOBS = {"infill": InfillJob, "reward": RewardJob, "dpo": DpoJob, "tune": TuneJob}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory):
    """The state folder of a stopped service: stores, registry and Redis."""
    return unpacked("state.zip", tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def settings(state_dir):
    return Settings(state_dir=state_dir, rater_secret=STATE["secret"])


@pytest.fixture(scope="module")
def store(state_dir):
    return FileStore(state_dir / "objects")


@pytest.fixture(scope="module")
def pairs(store):
    ids = [Path(key).stem for key in store.list("feedback/pairs/")]
    assert len(ids) == 17
    return [PairStore(store).get(pair_id) for pair_id in ids]


def unpacked(name, folder):
    with zipfile.ZipFile(FIXTURES / name) as archive:
        archive.extractall(folder)
    return folder


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# ---- vocabulary and checkpoints


def test_every_token_keeps_its_name_and_id():
    assert str(VOCAB.hash) == EXPECTED["vocabulary_hash"]
    assert [VOCAB.name(token) for token in range(VOCAB.size)] == (FIXTURES / "vocabulary.txt").read_text().splitlines()


@pytest.mark.parametrize("name", ["infill", "infill-causal"])
def test_a_checkpoint_gives_the_same_config_and_logits(name):
    wanted = EXPECTED["checkpoints"][name]
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
def test_a_checkpoint_fills_a_gap_as_before(name):
    """The same prompt tokens, copy gate, grammar and random numbers."""
    wanted = EXPECTED["checkpoints"][name]
    song = Song.parse(MINUET)
    region = resolve_region(RegionSpec(bars="5-6", tracks=[1]), song)
    infiller = Infiller.load(FIXTURES / f"{name}.safetensors")
    (fill,) = infiller.fill(song, region, seed=5, limits=limits_of(ControlSpec(max_notes_per_bar=4)))
    assert [list(window) for window in fill.tokens] == wanted["fill_tokens"]
    assert sha256(fill.midi) == wanted["midi_sha256"]


def test_a_model_with_micro_tokens_is_read_or_refused_by_name():
    assert refusal(lambda: load_checkpoint(FIXTURES / "infill-micro.safetensors")) in (None, "micro")


@pytest.mark.parametrize("case", EXPECTED["shipped"], ids=lambda case: json.dumps(case.get("controls", {})))
def test_the_shipped_weights_make_the_same_likeliest_fill(case):
    song, controls = Song.parse(MINUET), ControlSpec.model_validate(case.get("controls", {}))
    sampling = SamplingSpec.model_validate(case.get("sampling", {}) | {"temperature": 0.0})
    (fill,) = shipped().fill(
        song,
        resolve_region(RegionSpec.model_validate(case["region"]), song),
        limits=limits_of(controls),
        controls=soft_of(controls),
        only=controls.only,
        sampling=sampling_of(sampling),
    )
    assert [list(window) for window in fill.tokens] == case["tokens"]
    assert sha256(fill.midi) == case["midi_sha256"]
    assert fill.log_probability == pytest.approx(case["log_probability"], abs=1e-2)


def test_a_reward_model_ranks_fills_as_before():
    from harmonixr_model.fill.ranker import FilledWindow
    from harmonixr_model.fill.session import FillSession

    wanted, song = EXPECTED["reward"], Song.parse(MINUET)
    ranker = Ranker.load(FIXTURES / "reward.safetensors")
    assert ranker.info == wanted["info"]
    region = resolve_region(RegionSpec(bars="5-6", tracks=[1]), song)
    prompt = FillSession(song, region, max_length=512).next_prompt()
    rewards = ranker.score([[FilledWindow(prompt, tokens[0])] for tokens in wanted["fills"]])
    np.testing.assert_allclose([[reward.mean, reward.lower] for reward in rewards], wanted["rewards"], atol=1e-3)


# ---- feedback


def test_every_pair_is_read_and_named_by_the_same_hash(pairs):
    """`PairStore.get` recomputes the hash, too; here it is said outright."""
    for pair in pairs:
        assert pair_hash(pair) == pair.pair_id
        assert pair.vocabulary_hash == EXPECTED["vocabulary_hash"]
    assert STATE["earlier_pair"] in {pair.pair_id for pair in pairs}


def test_the_tokens_of_every_candidate_give_the_same_file(pairs):
    for pair in pairs:
        for side in (pair.first, pair.second):
            if side.model_version != "broken":
                assert replayed(pair, side.tokens) == base64.b64decode(side.midi_base64)
            assert sha256(base64.b64decode(side.midi_base64)) == side.midi_sha256


def replayed(pair, tokens):
    song = Song.parse(base64.b64decode(pair.context_base64))
    fill = shipped().replay(
        song,
        resolve_region(pair.region, song),
        tokens,
        limits=limits_of(pair.controls),
        controls=soft_of(pair.controls),
        only=pair.controls.only,
    )
    return fill.midi


def test_judgments_count_as_before(store):
    feedback = read_feedback(store)
    assert dict(feedback.counts) == STATE["counts"]
    assert {one.judgment.judgment_id: one.outcome for one in feedback.judged} == STATE["outcomes"]
    assert feedback.data_hash == STATE["data_hash"]
    assert {flag.rule for flag in feedback.flags} == {"one_side", "another_tool"}


def test_a_study_is_read_with_its_pairs_and_end(store, pairs):
    begun = StudyStore(store).need("temperatures")
    assert begun.study.version == STATE["study_version"]
    known = {pair.pair_id for pair in pairs}
    assert {pair.pair_id for pair in begun.pairs} < known
    assert {gold.pair_id for gold in begun.gold} < known
    assert StudyStore(store).closed("temperatures").reason == "the fixture is done"


# ---- job files


def test_every_job_file_is_read():
    found = set()
    for path in sorted(CONFIGS.glob("*.yaml")):
        values = read_job_file(path)
        kind = JOBS.get(values.get("task"))
        if kind is not None:
            found.add(kind)
            values.setdefault("corpus" if "composed" not in values and kind is InfillJob else "seed", 0)
            parse_job(kind, read_job_file(path), source=path.name)
    assert found == set(JOBS.values())


@pytest.mark.parametrize(
    "name", ["train_infill", "train_reward", "train_dpo", "tune_infill", "gate", "study", "serve_config"]
)
def test_every_key_of_a_job_file_still_means_something(name):
    """Leaving a key out changes what is read: a key under its old name is not only accepted but used."""
    values = yaml.safe_load((CONFIGS / f"every_key_{name}.yaml").read_text())
    whole = parsed(name, values)
    for place in leaves(values):
        try:
            other = parsed(name, without(values, place))
        except (JobError, ValueError):
            continue  # required, or needed by another key
        if place != ("register_as",):
            assert other != whole, f"{name}: {'.'.join(map(str, place))} changes nothing"


def parsed(name, values):
    if name == "serve_config":
        return ServingArgs.model_validate(values)
    if name == "study":
        from harmonixr_platform.feedback.studies.definition import parse_study

        return parse_study(values, source=name)
    if name == "gate":
        from harmonixr_platform.training.promotion_gate import Gate

        return parse_job(Gate, values, source=name)
    return parse_job(JOBS[values["task"]], values, source=name)


def leaves(values, place=()):
    for key, value in values.items():
        if isinstance(value, dict) and key not in ("space", "settings"):
            yield from leaves(value, (*place, key))
        elif key not in ("task",):
            yield (*place, key)


def without(values, place):
    first, *rest = place
    return {
        key: without(value, rest) if key == first else value for key, value in values.items() if key != first or rest
    }


def test_what_decides_a_run_is_named_as_in_the_runs_begun_before():
    job = parse_job(InfillJob, read_job_file(CONFIGS / "every_key_train_infill.yaml"), source="fixture")
    assert json.loads(json.dumps(_identity(job))) == EXPECTED["configs"]["identity"]


def test_studies_keep_their_versions():
    found = {path.name: read_study(path).version for path in sorted(CONFIGS.glob("*study*.yaml"))}
    assert found == EXPECTED["configs"]["study_versions"]


def test_the_gate_and_the_serving_arguments_are_read():
    assert read_gate(CONFIGS / "gate.yaml").min_judgments == 50
    (application,) = yaml.safe_load((CONFIGS / "serve_config.yaml").read_text())["applications"]
    ServingArgs.model_validate(application["args"])


def test_micro_is_accepted_where_it_is_off_and_else_named():
    values = read_job_file(CONFIGS / "train_infill_debug.yaml", ["model.micro=false"])
    assert (
        parse_job(InfillJob, values, source="job").architecture()
        == parse_job(InfillJob, read_job_file(CONFIGS / "train_infill_debug.yaml"), source="job").architecture()
    )
    values["model"]["micro"] = True
    assert refusal(lambda: parse_job(InfillJob, values, source="job").architecture()) in (None, "micro")


def refusal(call):
    """Return None where the call succeeds, "micro" where the refusal names micro, else the whole refusal."""
    try:
        call()
    except (JobError, CheckpointError) as error:
        return "micro" if "micro" in str(error).lower() else str(error)
    return None


_SHIPPED = []


def shipped():
    if not _SHIPPED:
        _SHIPPED.append(Infiller.load())
    return _SHIPPED[0]
