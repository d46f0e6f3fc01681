"""Real Ray: two workers train the debug job; a killed worker changes nothing; a name belongs to one run."""

import os
import secrets
import signal
import threading
from pathlib import Path

import pytest
import torch

from harmonixr_model.errors import CheckpointError
from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_platform.registry import open_registry
from harmonixr_platform.settings import Settings
from harmonixr_platform.stores.s3 import S3Store
from harmonixr_platform.training import infill_job
from harmonixr_platform.training.config import JobError
from harmonixr_platform.training.ray_session import ray_session

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
DEBUG = Path(__file__).parents[2] / "platform" / "configs" / "train_infill_debug.yaml"
STEPS = 16
SETTINGS = [f"optimisation.steps={STEPS}", "model.dropout=0.1", "register=true", "register_as=challenger"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module", autouse=True)
def ray():
    with ray_session(cpus=2):
        yield


@pytest.fixture(scope="module")
def undisturbed(settings):
    steps = []
    trained = infill_job.run(DEBUG, SETTINGS, settings=settings, on_step=steps.append)
    return trained, steps


def descendants(process: int) -> dict[int, str]:
    """Return the command lines of a process's descendants, by process id."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            names[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
            parents[int(entry.name)] = int(stat[1])
        except (ValueError, OSError):  # not a process, or one that just ended
            continue
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found and child not in found}:
        found |= more
    return {child: names[child] for child in found - {process}}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].state_dict()


def test_two_workers_train_report_and_register(undisturbed, settings):
    trained, steps = undisturbed
    assert [progress.step for progress in steps] == list(range(1, STEPS + 1))
    assert steps[-1].validation.loss < steps[0].loss
    assert trained.info["tokens_seen"] == steps[-1].tokens
    assert trained.version == open_registry(settings).resolve("infill", "challenger")
    assert trained.version.lineage.config["scaling"]["workers"] == 2
    assert (trained.model.parent / "metrics.jsonl").read_text().count("\n") == STEPS


def test_a_killed_worker_is_replaced_and_the_weights_are_the_same(undisturbed, settings):
    """It is killed after the checkpoint of step 4 and before that of step 8; its replacement repeats some steps."""
    steps, killed = [], threading.Event()

    def kill_one(progress):
        steps.append(progress.step)
        if progress.step >= 5 and not killed.is_set():
            workers = [pid for pid, name in descendants(os.getpid()).items() if "RayTrainWorker" in name]
            assert len(workers) == 2
            killed.set()
            os.kill(workers[-1], signal.SIGKILL)

    trained = infill_job.run(DEBUG, [*SETTINGS, "name=killed"], settings=settings, on_step=kill_one)
    assert killed.is_set()
    assert len(steps) > STEPS
    assert steps[-1] == STEPS
    expected, got = weights(undisturbed[0].model), weights(trained.model)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_finished_job_ends_at_once_with_the_same_model(undisturbed, settings):
    steps = []
    again = infill_job.run(DEBUG, SETTINGS, settings=settings, on_step=steps.append)
    assert steps == []
    assert again.version == undisturbed[0].version


def test_sharded_workers_train_the_same_job_and_save_a_whole_model(undisturbed, settings):
    """Sharded sums are added in another order: the weights agree but for rounding, made larger by Adam."""
    steps = []
    changes = ["name=sharded", "scaling.parallel=fsdp", "optimisation.precision=fp32"]
    trained = infill_job.run(DEBUG, [*SETTINGS, *changes], settings=settings, on_step=steps.append)
    assert [progress.step for progress in steps] == list(range(1, STEPS + 1))
    losses = [progress.loss for progress in undisturbed[1]]
    assert [progress.loss for progress in steps[:4]] == pytest.approx(losses[:4], rel=5e-3)
    assert steps[-1].validation.loss < steps[0].loss
    assert all(0 < progress.mfu < 1 for progress in steps)
    assert {n: w.shape for n, w in weights(trained.model).items()} == {
        n: w.shape for n, w in weights(undisturbed[0].model).items()
    }
    again = infill_job.run(DEBUG, [*SETTINGS, *changes], settings=settings)
    assert again.version == trained.version


def test_checkpoints_go_to_s3_and_are_resumed_from_there(undisturbed, tmp_path):
    url = os.environ.get("HARMONIXR_TEST_S3_URL")
    if not url:
        pytest.skip("HARMONIXR_TEST_S3_URL names no S3 server")
    access, secret = (
        os.environ.get("S3_ACCESS_KEY", "testaccess"),
        os.environ.get("S3_SECRET_KEY", "testsecret0123456789"),
    )
    S3Store("training", "", endpoint_url=url, access_key=access, secret_key=secret).create_bucket()
    settings = Settings(state_dir=tmp_path, s3_endpoint_url=url, s3_access_key=access, s3_secret_key=secret)
    name = f"name=run-{secrets.token_hex(6)}"
    trained = infill_job.run(DEBUG, [*SETTINGS, name, "storage=s3://training/runs"], settings=settings)
    expected, got = weights(undisturbed[0].model), weights(trained.model)
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    steps = []
    again = infill_job.run(
        DEBUG, [*SETTINGS, name, "storage=s3://training/runs"], settings=settings, on_step=steps.append
    )
    assert steps == []
    assert again.version == trained.version


def test_another_job_under_the_same_name_is_refused(undisturbed, settings):
    with pytest.raises(CheckpointError, match="learning_rate"):
        infill_job.run(DEBUG, [*SETTINGS, "optimisation.learning_rate=0.5"], settings=settings)


def test_a_failing_job_reports_the_cause_in_one_sentence(settings):
    hopeless = ["name=hopeless", "optimisation.learning_rate=1e30", "max_failures=0"]
    with pytest.raises(JobError, match="gradient is not finite at step"):
        infill_job.run(DEBUG, hopeless, settings=settings)
