"""Connect a job to Ray: to the cluster of a submitted job, or to a private Ray that ends with this process."""

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

    Another Ray on this machine is not used: it may belong to somebody else.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        # Ray listens on more than the loopback address; its token is not written to the home folder.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        yield
        return
    # Workers report progress by a queue and errors by exceptions. Their log lines stay in the dashboard.
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
    """Start a private Ray. Its start times out after 30 s, which happens on a busy machine; then try once more."""
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
    """Send our packages from a checkout to all nodes; an installed package is expected on each node."""
    library = Path(harmonixr_model.__file__).parent
    platform = Path(__file__).parents[1]
    if "site-packages" in library.parts:
        return {}
    return {"py_modules": [str(library), str(platform)]}
