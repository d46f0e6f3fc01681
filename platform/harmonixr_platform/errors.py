"""The base of the platform's errors."""

from __future__ import annotations

from typing import Any, ClassVar

from harmonixr_model.errors import HarmonixrError


class PlatformError(HarmonixrError):
    """An error with the HTTP status that fits it: `class NotFound(StoreError, status=404)`."""

    status: ClassVar[int] = 500

    def __init_subclass__(cls, *, status: int | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if status is not None:
            cls.status = status
