"""Find the corpus of a job: a folder, or songs of the bundled composer."""

from __future__ import annotations

from pathlib import Path

from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_platform.settings import Settings
from harmonixr_platform.training.config import InfillJob, JobError


def corpus_folder(job: InfillJob, settings: Settings) -> Path:
    """Return the folder of the job's corpus; write a composed corpus where the job has one."""
    if job.corpus is not None:
        return job.corpus.expanduser().resolve()
    if job.composed is None:
        raise JobError("give either `corpus: FOLDER` or `composed: {}`")
    name = f"composed-{job.composed.pieces}-{job.composed.seed}"
    return write_composed_corpus(
        settings.state_dir / "corpora" / name, pieces=job.composed.pieces, seed=job.composed.seed
    )
