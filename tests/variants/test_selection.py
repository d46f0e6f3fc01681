"""A job file selects a variant of the model or of the corpus, and trains it."""

from pathlib import Path

import pytest
import torch

from harmonixr_model.data.corpus import Corpus
from harmonixr_model.errors import CheckpointError
from harmonixr_model.infill.checkpoint import load_checkpoint
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_model.training.loop import train
from harmonixr_model.variants.selection import read_variant_info
from harmonixr_model.variants.single_key_corpus import in_single_key
from harmonixr_platform.training.config import InfillJob, JobError, parse_job, read_job_file
from harmonixr_platform.training.infill_job import best_model, infill_task, resumed_run, save_model

torch.set_num_threads(1)
DEBUG = Path("platform/configs/train_infill_debug.yaml")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_composed_corpus(tmp_path_factory.mktemp("corpus"), pieces=8)


def debug_job(*overrides):
    return parse_job(InfillJob, read_job_file(DEBUG, ["optimisation.steps=3", *overrides]), source="the test")


@pytest.mark.parametrize("variant", ["encoder_decoder", "compound"])
def test_a_job_trains_a_model_variant(corpus, tmp_path, variant):
    job = debug_job(f"model.variant={variant}", "optimisation.validate_every=3")
    run = resumed_run(job, CPU, None, job.identity())
    steps = list(train(run, infill_task(job, corpus), job.loop(), device=CPU))
    assert steps[-1].validation is not None
    save_model(tmp_path / "model", job, best_model(job, run), info={"steps": run.step})
    assert read_variant_info(tmp_path / "model") == {"steps": 3}
    with pytest.raises(CheckpointError, match="not an infill checkpoint"):
        load_checkpoint(tmp_path / "model")


def test_a_job_trains_in_a_single_key(corpus):
    job = debug_job("data.single_key=true")
    source = infill_task(job, corpus).held_out
    assert source.corpus.score(0) == in_single_key(Corpus.open(corpus).score(0))
    assert not job.data.build().transposes
    assert job.identity()["data"]["single_key"]


def test_a_variant_changes_the_identity_and_cannot_be_registered():
    assert "variant" not in debug_job().identity()
    assert debug_job("model.variant=compound").identity()["variant"] == "compound"
    with pytest.raises(JobError, match="cannot be registered"):
        debug_job("model.variant=compound", "register=true")
