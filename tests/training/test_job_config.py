"""A job file's promises: our own are valid, a misspelt key fails with its place, overrides reach their setting."""

import os
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harmonixr_model.infill.config import SIZES
from harmonixr_model.training.infill_task import DEFAULT_DATASET
from harmonixr_platform.cli.tune import trial_table
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.s3 import S3Store
from harmonixr_platform.training.config import InfillJob, JobError, parse_job, read_job_file
from harmonixr_platform.training.storage import open_storage
from harmonixr_platform.training.tune_config import TuneJob
from harmonixr_platform.training.tune_job import Trial

CONFIGS = Path(__file__).parents[2] / "platform" / "configs"
MINIMAL = {"task": "infill", "name": "x", "corpus": "c", "optimisation": {"steps": 3}}


@pytest.mark.parametrize("name", ["train_infill.yaml", "train_infill_debug.yaml"])
def test_our_training_jobs_are_valid(name):
    job = parse_job(InfillJob, read_job_file(CONFIGS / name), source=name)
    assert job.architecture().max_length == max(job.context)
    assert job.loop().steps == job.optimisation.steps


@pytest.mark.parametrize(
    "name", [f"tune_{what}{twin}.yaml" for what in ("infill", "architectures") for twin in ("", "_debug")]
)
def test_our_sweeps_and_their_trials_are_valid(name):
    sweep = parse_job(TuneJob, read_job_file(CONFIGS / name), source=name)
    base = read_job_file(CONFIGS / sweep.base)
    before = yaml.safe_dump(base)
    parse_job(InfillJob, sweep.trial(base, sweep.example_values()), source=name)
    assert yaml.safe_dump(base) == before


def test_a_job_may_choose_its_architecture_and_its_examples():
    default = parse_job(InfillJob, MINIMAL, source="")
    assert default.architecture() == replace(SIZES["nano"], dropout=0.0, max_length=1024)
    assert (default.data.build(), default.data.identity()) == (DEFAULT_DATASET, {})
    chosen = {
        "model": {"attending": "causal", "coordinates": False},
        "data": {"passages": 0, "transposes": False},
    }
    job = parse_job(InfillJob, MINIMAL | chosen, source="")
    made = job.architecture()
    assert (made.attending, made.coordinates) == ("causal", False)
    assert job.data.build() == replace(DEFAULT_DATASET, passages=0, transposes=False)
    assert job.data.identity() == {"data": {"passages": 0, "transposes": False}}


def test_an_older_job_file_may_switch_micro_off_and_not_on():
    assert parse_job(InfillJob, MINIMAL | {"model": {"micro": False}}, source="") == parse_job(
        InfillJob, MINIMAL, source=""
    )
    with pytest.raises(JobError, match="MICRO tokens can no longer be trained"):
        parse_job(InfillJob, MINIMAL | {"model": {"micro": True}}, source="")


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"stpes": 3}, "stpes"),
        ({"optimisation": {"steps": 3, "lr": 1}}, r"optimisation\.lr"),
        ({"optimisation": {"steps": 0}}, r"optimisation\.steps"),
        ({"model": {"size": "huge"}}, r"model\.size"),
        ({"scaling": {"parallel": "horovod"}}, r"scaling\.parallel"),
        ({"scaling": {"workers": 0}}, r"scaling\.workers"),
        ({"composed": {"pieces": 8}}, "either"),
        ({"register_as": "champion"}, "register: true"),
        ({"name": "../elsewhere"}, "name"),
    ],
)
def test_a_wrong_setting_fails_with_its_place(changes, place):
    with pytest.raises(JobError, match=place):
        parse_job(InfillJob, MINIMAL | changes, source="job.yaml")


def test_overrides_reach_their_setting_as_yaml(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    values = read_job_file(path, ["optimisation.learning_rate=1e-3", "model.size=small", "context=[128]"])
    job = parse_job(InfillJob, values, source="job.yaml")
    assert (job.optimisation.steps, job.optimisation.learning_rate) == (3, 1e-3)
    assert job.architecture().width == 384
    assert job.context == (128,)


@pytest.mark.parametrize("override", ["steps", "name.first=1", "context=[1"])
def test_an_unreadable_override_is_an_error(tmp_path, override):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(JobError):
        read_job_file(path, [override])


@pytest.mark.parametrize("content", ["a: [", "", "- a", "\x00"])
def test_a_file_that_is_no_job_is_an_error(tmp_path, content):
    path = tmp_path / "job.yaml"
    path.write_text(content)
    with pytest.raises(JobError, match=r"job\.yaml"):
        read_job_file(path)


def test_parallelism_and_compilation_reach_the_loop():
    changes = {"optimisation": {"steps": 3, "compile": True}, "scaling": {"workers": 2, "parallel": "fsdp"}}
    loop = parse_job(InfillJob, MINIMAL | changes, source="job.yaml").loop()
    assert (loop.compiles, loop.parallel) == (True, "fsdp")
    plain = parse_job(InfillJob, MINIMAL, source="job.yaml").loop()
    assert (plain.compiles, plain.parallel) == (False, "ddp")


def test_a_group_of_settings_changes_only_its_own_keys():
    sweep = parse_job(
        TuneJob,
        {
            "task": "tune",
            "name": "x",
            "base": "job.yaml",
            "settings": {"optimisation": {"warmup": 5}},
            "space": {"optimisation.learning_rate": {"choice": [1e-3]}},
            "grace_steps": 1,
        },
        source="tune.yaml",
    )
    trial = sweep.trial(MINIMAL, {"optimisation.learning_rate": 2e-3})
    assert trial["optimisation"] == {"steps": 3, "warmup": 5, "learning_rate": 2e-3}


def test_a_distribution_is_one_thing():
    sweep = {"task": "tune", "name": "x", "base": "b", "grace_steps": 1}
    with pytest.raises(JobError, match="one of"):
        parse_job(TuneJob, {**sweep, "space": {"a": {"choice": [1], "uniform": [0, 1]}}}, source="tune.yaml")


def test_the_default_storage_is_the_state_folder(tmp_path):
    settings = Settings(state_dir=tmp_path)
    assert open_storage("", settings).path == str(tmp_path.resolve() / "train")
    assert open_storage(f"file://{tmp_path}/x", settings).path == f"{tmp_path}/x"
    assert open_storage("s3://bucket/deep/er/", settings).path == "bucket/deep/er"
    with pytest.raises(JobError, match="s3://bucket/prefix"):
        open_storage("gs://bucket", settings)


def test_storage_returns_the_written_bytes(tmp_path):
    storage = open_storage(str(tmp_path), Settings(state_dir=tmp_path))
    assert storage.read("run/job.json") is None
    storage.write("run/job.json", b"{}")
    assert storage.read("run/job.json") == b"{}"


def test_the_table_has_a_row_for_each_trial_and_marks_failures():
    trials = [Trial({"lr": 0.00123}, 8, 1.5, 9.25, ""), Trial({"lr": 0.5}, 2, None, None, "it broke")]
    lines = trial_table(trials).splitlines()
    assert len(lines) == 3
    assert "0.00123" in lines[1]
    assert lines[2].endswith("failed")
    assert "–" in lines[2]


@pytest.mark.s3
def test_storage_on_a_real_s3_server():
    url = os.environ.get("HARMONIXR_TEST_S3_URL")
    if not url:
        pytest.skip("HARMONIXR_TEST_S3_URL names no S3 server")
    access, secret = (
        os.environ.get("S3_ACCESS_KEY", "testaccess"),
        os.environ.get("S3_SECRET_KEY", "testsecret0123456789"),
    )
    S3Store("training", "", endpoint_url=url, access_key=access, secret_key=secret).create_bucket()
    settings = Settings(s3_endpoint_url=url, s3_access_key=access, s3_secret_key=secret)
    storage = open_storage(f"s3://training/{secrets.token_hex(6)}", settings)
    assert storage.read("run/job.json") is None
    storage.write("run/job.json", b"{}")
    assert storage.read("run/job.json") == b"{}"
