"""Two workers over gloo learn what one does: each with all weights (DDP), and with the weights sharded (FSDP)."""

import importlib
import itertools

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from harmonixr_model.data.collate import collate
from harmonixr_model.infill.config import sized
from harmonixr_model.infill.model import InfillTransformer
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_model.training.infill_task import BatchConfig, InfillTask, corpus_task
from harmonixr_model.training.loop import LoopConfig, new_run, train
from harmonixr_model.training.state import load_state, state_of, write_state

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
STEPS = 4
ROWS = 5  # of a step: one worker takes three, the other two
PARALLEL = ("ddp", "fsdp")


class SharedTask(InfillTask):
    """The same rows a step whatever the number of workers, each a batch of its own: only then can losses be equal."""

    @classmethod
    def of(cls, corpus, rank=0, world_size=1):
        config = BatchConfig(batch_tokens=2000, micro_tokens=512, validation_examples=5)
        whole = corpus_task(corpus, config, context=(256,), steps=STEPS)
        return cls(whole.stages, whole.held_out, config, steps=STEPS, rank=rank, world_size=world_size)

    def batches(self, step):
        rows = [self.stages[256].example(index, step=step, seed=0) for index in range(ROWS)]
        return [collate([row]) for row in rows[self.rank :: self.world_size]]


def config(parallel):
    # Adam's first steps have the size of the rate whatever the gradient: a small one keeps rounding small.
    return LoopConfig(steps=STEPS, warmup=0, learning_rate=1e-3, validate_every=2, precision="fp32", parallel=parallel)


def fresh(parallel, seed):
    torch.manual_seed(seed)
    return new_run(InfillTransformer(sized("nano", width=32, layers=2, heads=2, dropout=0.0)), config(parallel))


def learn(run, task, count=STEPS, **where):
    parallel = "fsdp" if run.is_sharded else "ddp"
    told = itertools.islice(train(run, task, config(parallel), device=torch.device("cpu"), **where), count)
    return [(p.loss, p.gradient_norm, p.validation and p.validation.loss) for p in told]


def work(rank, corpus, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    task, where = SharedTask.of(corpus, rank, 2), {"rank": rank, "world_size": 2}
    said = {}
    for parallel in PARALLEL:
        run = fresh(parallel, seed=rank)  # only the first worker's beginning counts
        told = learn(run, task, **where)
        held = sum(weight.to_local().numel() if run.is_sharded else weight.numel() for weight in run.model.parameters())
        said[parallel] = {"told": told, "weights": run.weights(), "best": run.best_weights, "held": held}
    cut = fresh("fsdp", seed=rank)
    learn(cut, task, 2, **where)
    content = state_of(cut, job={})
    if rank == 0:
        write_state(folder / "state.pt", content)
    dist.barrier()
    resumed = fresh("fsdp", seed=9)
    load_state(folder / "state.pt", resumed, job={})
    said["resumed"] = {"told": learn(resumed, task, **where), "weights": resumed.weights()}
    torch.save(said, folder / f"said{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    corpus = write_composed_corpus(folder / "corpus", pieces=8)
    alone = fresh("ddp", seed=0)
    told = learn(alone, SharedTask.of(corpus))
    # Forked, not spawned, and with FSDP's modules: importing them twice would take longer than all the rest.
    importlib.import_module("torch.distributed.fsdp")
    importlib.import_module("torch.distributed.checkpoint.state_dict")
    mp.start_processes(work, args=(corpus, folder), nprocs=2, start_method="fork")
    said = [torch.load(folder / f"said{rank}.pt", weights_only=True) for rank in (0, 1)]
    return {"told": told, "weights": alone.weights()}, said


@pytest.mark.parametrize("parallel", PARALLEL)
def test_two_workers_have_the_loss_of_one_at_every_step(alone_and_together, parallel):
    alone, said = alone_and_together
    assert len(alone["told"]) == STEPS
    assert alone["told"][-1][0] < alone["told"][0][0]
    for worker in said:
        for (loss, norm, valid), (loss_2, norm_2, valid_2) in zip(alone["told"], worker[parallel]["told"], strict=True):
            assert loss_2 == pytest.approx(loss, rel=1e-5)
            assert norm_2 == pytest.approx(norm, rel=1e-4)
            assert (valid is None) == (valid_2 is None)
            assert valid is None or valid_2 == pytest.approx(valid, rel=1e-5)


@pytest.mark.parametrize("parallel", PARALLEL)
def test_two_workers_end_with_the_weights_of_one_but_for_rounding(alone_and_together, parallel):
    alone, said = alone_and_together
    for worker in said:
        assert worker[parallel]["weights"].keys() == alone["weights"].keys()
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(worker[parallel]["weights"][name], weight, rtol=1e-3, atol=5e-4)
        for name, weight in worker[parallel]["best"].items():
            assert weight.shape == alone["weights"][name].shape


def test_a_sharded_worker_holds_half_of_the_weights(alone_and_together):
    _, said = alone_and_together
    parameters = said[0]["ddp"]["held"]
    assert sum(worker["fsdp"]["held"] for worker in said) == parameters
    assert all(0.4 < worker["fsdp"]["held"] / parameters < 0.6 for worker in said)


def test_a_resumed_sharded_run_is_exact(alone_and_together):
    for worker in alone_and_together[1]:
        assert worker["resumed"]["told"] == worker["fsdp"]["told"][2:]
        for name, weight in worker["fsdp"]["weights"].items():
            assert torch.equal(worker["resumed"]["weights"][name], weight), name
