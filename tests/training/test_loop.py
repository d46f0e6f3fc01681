"""The loop promises: it learns, resumes exactly, stops when nothing improves, and splits steps without effect."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from harmonixr_model.errors import CheckpointError
from harmonixr_model.training.loop import LoopConfig, new_run, train
from harmonixr_model.training.state import load_state, save_state

torch.set_num_threads(1)
CPU = torch.device("cpu")


class LineTask:
    """Regression on a line with noise, keyed by step: the smallest real task."""

    def __init__(self, *, micro: int = 2, valid_noise: float = 0.0) -> None:
        self.micro = micro
        self.valid_noise = valid_noise
        self.steps_drawn: list[int] = []

    def draw(self, seed: int, noise: float) -> torch.Tensor:
        x = np.random.default_rng(seed).normal(size=(8, 4)).astype(np.float32)
        y = x @ np.array([1, -2, 3, 0.5], np.float32) + noise * np.random.default_rng(seed + 1).normal(size=8)
        return torch.tensor(np.concatenate([x, y[:, None].astype(np.float32)], axis=1))

    def batches(self, step):
        self.steps_drawn.append(step)
        return list(self.draw(step, 0.1).split(self.micro))

    def validation(self):
        return [self.draw(10**6, self.valid_noise)]

    def to(self, batch, device):
        return batch.to(device)

    def weight(self, batch):
        return len(batch)

    def tokens(self, batch):
        return len(batch)

    def loss(self, model, batch):
        error = (model(batch[:, :4])[:, 0] - batch[:, 4]) ** 2
        return error.sum(), torch.tensor([len(batch), len(batch)])


def net(dropout: float = 0.2) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 16), nn.Dropout(dropout), nn.Tanh(), nn.Linear(16, 1))


CONFIG = LoopConfig(steps=30, learning_rate=2e-2, warmup=3, validate_every=10, precision="fp32")


def weights(run) -> list[torch.Tensor]:
    return [weight.clone() for weight in run.model.parameters()]


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_it_learns_and_reports_its_metrics():
    run = new_run(net(0.0), CONFIG)
    progress = list(train(run, LineTask(), CONFIG, device=CPU))
    assert [p.step for p in progress] == list(range(1, 31))
    assert progress[-1].loss < 0.3 * progress[0].loss
    assert progress[-1].tokens == 30 * 8
    assert [p.step for p in progress if p.validation] == [10, 20, 30]
    assert progress[-1].eta_s == 0
    assert all(p.tokens_per_s > 0 for p in progress)


@pytest.mark.parametrize("stop_at", [1, 10, 17])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, stop_at):
    whole = new_run(net(), CONFIG)
    uninterrupted = list(train(whole, LineTask(), CONFIG, device=CPU))
    first = new_run(net(), CONFIG)
    for _ in itertools.islice(train(first, LineTask(), CONFIG, device=CPU), stop_at):
        pass
    save_state(tmp_path / "state.pt", first, job={"a": 1})
    torch.manual_seed(999)  # whatever happened to the process in between
    second, task = new_run(net(), CONFIG), LineTask()
    load_state(tmp_path / "state.pt", second, job={"a": 1})
    rest = list(train(second, task, CONFIG, device=CPU))
    assert task.steps_drawn == list(range(stop_at, 30))
    assert equal(weights(whole), weights(second))
    assert [p.loss for p in uninterrupted[stop_at:]] == [p.loss for p in rest]
    assert (whole.best_step, whole.best_loss, whole.tokens) == (second.best_step, second.best_loss, second.tokens)


def test_dropout_is_at_work_and_depends_on_the_seed():
    """Without it the exactness above would prove nothing about random streams."""
    ends = []
    for seed in (0, 0, 1):
        config = LoopConfig(steps=5, seed=seed, precision="fp32", warmup=1)
        run = new_run(net(0.5), config)
        list(train(run, LineTask(), config, device=CPU))
        ends.append(weights(run))
    assert equal(ends[0], ends[1])
    assert not equal(ends[0], ends[2])


def test_splitting_a_step_into_smaller_batches_changes_nothing_but_rounding():
    ends = []
    for micro in (8, 3):
        run = new_run(net(0.0), CONFIG)
        list(train(run, LineTask(micro=micro), CONFIG, device=CPU))
        ends.append(weights(run))
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_it_stops_early_with_the_best_weights():
    config = LoopConfig(steps=500, learning_rate=0.5, warmup=1, validate_every=5, patience=3, precision="fp32")
    run = new_run(net(0.0), config)
    progress = list(train(run, LineTask(valid_noise=2.0), config, device=CPU))
    assert run.step < 500
    assert run.step == run.best_step + 3 * 5
    best = min(p.validation.loss for p in progress if p.validation)
    run.load_best()
    model, [batch] = run.model.eval(), LineTask(valid_noise=2.0).validation()
    with torch.no_grad():
        assert LineTask().loss(model, batch)[0].item() / 8 == pytest.approx(best, rel=1e-5)


def test_weights_decay_on_matrices_alone():
    run = new_run(net(), CONFIG)
    decays = {weight.ndim: group["weight_decay"] for group in run.optimizer.param_groups for weight in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}


def test_a_gradient_that_is_not_finite_stops_the_run():
    class BrokenTask(LineTask):
        def loss(self, model, batch):
            loss, counts = super().loss(model, batch)
            return loss * float("inf"), counts

    with pytest.raises(FloatingPointError, match="step 0"):
        next(train(new_run(net(), CONFIG), BrokenTask(), CONFIG, device=CPU))


def test_loader_processes_change_nothing():
    ends = []
    for workers in (0, 1):
        config = LoopConfig(steps=4, precision="fp32", loader_workers=workers)
        run = new_run(net(), config)
        list(train(run, LineTask(), config, device=CPU))
        ends.append(weights(run))
    assert equal(*ends)


def test_a_state_of_another_job_is_refused_with_a_reason(tmp_path):
    run = new_run(net(), CONFIG)
    save_state(tmp_path / "state.pt", run, job={"seed": 1, "steps": 3})
    with pytest.raises(CheckpointError, match="seed"):
        load_state(tmp_path / "state.pt", run, job={"seed": 2, "steps": 3})


def test_a_damaged_state_is_refused(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_state(tmp_path / "state.pt", new_run(net(), CONFIG), job={})
