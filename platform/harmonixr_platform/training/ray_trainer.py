"""Run a training function on Ray Train workers, with retries, resumption by name and progress messages."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harmonixr_platform.training.config import JobError, Workers
from harmonixr_platform.training.ray_session import ray_session
from harmonixr_platform.training.storage import RunStorage


def train_on_ray(
    worker: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    *,
    name: str,
    storage: RunStorage,
    scaling: Workers,
    use_gpu: bool = False,
    max_failures: int = 1,
    on_message: Callable[[Any], None] = lambda message: None,
) -> Any:
    """Run `worker(config)` on every worker and return the last checkpoint, a `ray.train.Checkpoint`.

    A run of the same name and storage resumes: `ray.train.get_checkpoint` returns its last checkpoint to each worker.

    Args:
        worker: what each worker runs.
        config: its argument. Workers find a Ray queue in `config["messages"]`.
        name: the run's folder in the storage.
        storage: receives the checkpoints.
        scaling: the number of workers and their CPUs.
        use_gpu: give each worker a GPU, and NCCL instead of gloo.
        max_failures: how often a lost worker is replaced.
        on_message: called in a thread of this process with each message of the queue.

    Raises:
        JobError: more than `max_failures` workers failed.

    """
    with ray_session(cpus=scaling.workers * scaling.cpus_per_worker), _message_queue(on_message) as messages:
        from ray.train import (
            CheckpointConfig,
            FailureConfig,
            LoggingConfig,
            RunConfig,
            ScalingConfig,
            TrainingFailedError,
        )
        from ray.train.torch import TorchConfig, TorchTrainer

        trainer = TorchTrainer(
            worker,
            train_loop_config={**config, "messages": messages},
            torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=scaling.workers,
                use_gpu=use_gpu,
                resources_per_worker={"CPU": scaling.cpus_per_worker, **({"GPU": 1} if use_gpu else {})},
            ),
            run_config=RunConfig(  # type: ignore[call-arg]  # type checkers see V1, V2 is in force
                name=name,
                storage_path=storage.path,
                storage_filesystem=storage.filesystem,
                failure_config=FailureConfig(max_failures=max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )
        try:
            return trainer.fit().checkpoint
        except TrainingFailedError as error:
            failures = getattr(error, "worker_failures", None) or {0: error}
            reason = str(next(iter(failures.values()))).strip().splitlines()[-1]
            raise JobError(
                f"run {name} failed after {max_failures} retries: {reason}; correct the cause and run the same command "
                "again: it continues from the last checkpoint"
            ) from error


def report_checkpoint(metrics: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Report from a worker; the first worker adds the files that `write(folder)` makes.

    `ray.train.report` is a barrier: every worker calls this function equally often.
    """
    import ray.train

    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


@contextlib.contextmanager
def _message_queue(on_message: Callable[[Any], None]) -> Iterator[Any]:
    """Yield a Ray queue whose messages reach `on_message`; every message has arrived when the block ends."""
    from ray.exceptions import RayError
    from ray.util.queue import Queue

    queue = Queue(actor_options={"num_cpus": 0})

    def forward() -> None:
        while (message := queue.get()) is not None:
            on_message(message)

    thread = threading.Thread(target=forward, name="progress", daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        with contextlib.suppress(RayError):
            queue.put(None)
            thread.join()
            queue.shutdown()
