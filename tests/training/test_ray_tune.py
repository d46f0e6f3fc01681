"""Real Ray Tune: the debug sweep ends with a best trial, and an interrupted one continues."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harmonixr_platform.settings import Settings
from harmonixr_platform.training import tune_job

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
DEBUG = Path(__file__).parents[2] / "platform" / "configs" / "tune_infill_debug.yaml"


def test_an_interrupted_sweep_continues_and_keeps_its_trials(tmp_path):
    environment = os.environ | {"HARMONIXR_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "harmonixr_platform.cli", "tune", str(DEBUG)]
    with open(tmp_path / "output", "wb") as output:
        sweep = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        place = tmp_path / "train" / "tune-infill-debug"
        deadline = time.monotonic() + 300
        while not list(place.glob("*/checkpoint_*")) and sweep.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert sweep.poll() is None, (tmp_path / "output").read_text()
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.wait()
    begun = {path.name for path in place.iterdir() if path.is_dir()}
    trials = tune_job.run(DEBUG, settings=Settings(state_dir=tmp_path))
    assert len(trials) == 3
    assert begun <= {path.name for path in place.iterdir() if path.is_dir()}
    assert [trial.error for trial in trials] == ["", "", ""]
    losses = [trial.valid_loss for trial in trials]
    assert losses == sorted(losses)
    assert max(trial.step for trial in trials) == 8
    assert all({"optimisation.learning_rate", "model.layers"} == set(trial.settings) for trial in trials)
