"""What calls to the service raise. Knows nothing of how they are made."""

from __future__ import annotations

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.schemas import Problem


class ServiceError(HarmonixrError):
    """The service refused or did not answer. `status` is the HTTP status (0: none came), `problem` what it said."""

    def __init__(self, detail: str, *, status: int, problem: Problem | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = problem
