"""The error that all calls of the service raise."""

from __future__ import annotations

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.schemas import Problem


class ServiceError(HarmonixrError):
    """The service refused or did not respond. `status` is the HTTP status, 0 without a response."""

    def __init__(self, detail: str, *, status: int, problem: Problem | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = problem
