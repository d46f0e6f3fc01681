"""A Ray to run a job on: the cluster this process was submitted to, or one of its own that ends with it.

Knows nothing of what runs on it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harmonixr_model
from harmonixr_platform.training.storage import S3_ENVIRONMENT


@contextlib.contextmanager
def ray_session(*, cpus: int | None = None) -> Iterator[None]:
    """Connect to RAY_ADDRESS when it is set (as under `ray job submit`), otherwise start a private Ray and stop it.

    A Ray that merely runs on this machine is left alone: it may be somebody else's.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        # Ray listens on more than the loopback: its token keeps others out, and is never written to the home folder.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        yield
        return
    # Workers tell how far they are by a mailbox and what went wrong by raising; their log lines, which the dashboard
    # keeps, would drown both.
    if address:
        environment = {"env_vars": S3_ENVIRONMENT, **_our_code()}
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=logging.WARNING)
    else:
        os.environ.update(S3_ENVIRONMENT)
        _start_local(cpus)
    try:
        yield
    finally:
        ray.shutdown()


def _start_local(cpus: int | None) -> None:
    """Start a Ray of our own. It gives itself 30 s, which a very busy machine can exceed: then once more."""
    import ray

    for is_last in (False, True):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
            return
        except Exception as error:  # Ray raises it bare
            if is_last or "timed out during startup" not in str(error):
                raise
            ray.shutdown()


def _our_code() -> dict[str, Any]:
    """Send our packages to nodes that may not have them; an installed wheel is taken to be everywhere."""
    library = Path(harmonixr_model.__file__).parent
    platform = Path(__file__).parents[1]
    if "site-packages" in library.parts:
        return {}
    return {"py_modules": [str(library), str(platform)]}
