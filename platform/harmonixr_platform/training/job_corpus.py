"""Which corpus a job reads: the folder it names, or songs composed on the spot. Knows nothing of Ray."""

from __future__ import annotations

import subprocess
from pathlib import Path

import harmonixr_model
from harmonixr_model.training.composed_corpus import write_composed_corpus
from harmonixr_platform.settings import Settings
from harmonixr_platform.training.config import InfillJob, JobError


def corpus_folder(job: InfillJob, settings: Settings) -> Path:
    """Return the folder of the job's corpus, composing it if that is what the job asks for."""
    if job.corpus is not None:
        return job.corpus.expanduser().resolve()
    if job.composed is None:
        raise JobError("give either `corpus: FOLDER` or `composed: {}`")
    name = f"composed-{job.composed.pieces}-{job.composed.seed}"
    return write_composed_corpus(
        settings.state_dir / "corpora" / name, pieces=job.composed.pieces, seed=job.composed.seed
    )


def code_version() -> str:
    """Return the version of our code, with the commit where this is a checkout."""
    checkout = Path(harmonixr_model.__file__).parents[1]
    if not (checkout / ".git").exists():
        return harmonixr_model.__version__
    asked = subprocess.run(
        ["git", "-C", str(checkout), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return (
        f"{harmonixr_model.__version__}+{asked.stdout.strip()}"
        if asked.returncode == 0
        else harmonixr_model.__version__
    )
