"""Two real workers over gloo: the same step as one worker, and an exact resume."""

import itertools

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from harmonixr_model.infill.config import sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_model.training.infill_task import BatchConfig, corpus_task
from harmonixr_model.training.loop import LoopConfig, new_run, train
from harmonixr_model.training.state import load_state, save_state

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
STEPS = 5
LOOP = LoopConfig(steps=STEPS, warmup=1, validate_every=STEPS, precision="fp32")
BATCH = BatchConfig(batch_tokens=2000, micro_tokens=512, validation_examples=4)


def fresh(seed):
    torch.manual_seed(seed)
    return new_run(InfillTransformer(sized("nano", width=32, layers=1, heads=2, dropout=0.1)), LOOP)


def work(rank, corpus, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    task = corpus_task(corpus, BATCH, context=(256,), steps=STEPS, rank=rank, world_size=2)

    def steps(run, count):
        list(itertools.islice(train(run, task, LOOP, device=torch.device("cpu"), rank=rank, world_size=2), count))

    whole = fresh(seed=rank)  # only the first worker's beginning counts
    steps(whole, STEPS)
    cut = fresh(seed=rank)
    steps(cut, 2)
    save_state(folder / f"state{rank}.pt", cut, job={})
    resumed = fresh(seed=7)
    load_state(folder / f"state{rank}.pt", resumed, job={})
    steps(resumed, STEPS)
    torch.save([run.model.state_dict() for run in (whole, resumed)], folder / f"weights{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    corpus = write_composed_corpus(folder / "corpus", pieces=8)
    # Forked, not spawned: importing torch anew twice would take longer than all the rest.
    mp.start_processes(work, args=(corpus, folder), nprocs=2, start_method="fork")
    return [torch.load(folder / f"weights{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_workers_end_with_the_same_weights(weights):
    (first, _), (second, _) = weights
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_of_two_workers_is_exact(weights):
    for whole, resumed in weights:
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_they_learned_something(weights):
    untrained = fresh(seed=0).model.state_dict()
    assert not any(torch.equal(untrained[name], weights[0][0][name]) for name in untrained)
