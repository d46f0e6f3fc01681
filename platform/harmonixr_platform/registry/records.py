"""The registry's records: versions with their lineage, promotion decisions, and aliases with their history."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from pydantic import Field

from harmonixr_platform.errors import PlatformError
from harmonixr_platform.schemas import Strict


class RegistryError(PlatformError, status=404):
    """A model, version or alias does not exist, or another process changed it first."""


class Lineage(Strict):
    """Where a version comes from: enough to reproduce it, with its metrics."""

    data: dict[str, Any] = Field(default_factory=dict, description="corpus or manifests: name, hash, licence, counts")
    config: dict[str, Any] = Field(default_factory=dict, description="the whole job file")
    code: str = Field(default="", description="commit that trained it")
    metrics: dict[str, float] = Field(default_factory=dict)
    parents: tuple[str, ...] = Field(default=(), description="versions it was made from, as name/version")
    note: str = ""


class Version(Strict):
    """One immutable version. Its id is the beginning of its file's SHA-256."""

    name: str
    version: str
    file: str
    sha256: str
    size_bytes: int
    lineage: Lineage
    created: datetime

    @property
    def key(self) -> str:
        """The key of its file in the object store."""
        return f"registry/{self.name}/{self.version}/{self.file}"


class PromotionCheck(Strict):
    """One check of the promotion gate: the measured and the required value, and a sentence with both."""

    name: str
    passed: bool
    measured: float | None
    wanted: float
    sentence: str


class Promotion(Strict):
    """A decision of the promotion gate with its reasons. Stored once under its content hash, also when refused."""

    name: str
    alias: str
    version: str
    champion: str
    promoted: bool
    checks: tuple[PromotionCheck, ...]
    evidence: dict[str, Any] = Field(description="the numbers behind the checks, for both versions")
    data: str = Field(description="hash of the judgments that were read")
    gate: dict[str, Any] = Field(description="the gate's settings")
    simulated: bool = Field(description="whether the judgments were made by programs")
    code: str = ""
    decided: datetime

    @property
    def promotion_id(self) -> str:
        """The beginning of the SHA-256 of its content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the failed checks; empty if it was promoted."""
        return tuple(check.sentence for check in self.checks if not check.passed)


class AliasMove(Strict):
    """One change of an alias."""

    version: str
    reason: str
    at: datetime


class Alias(Strict):
    """The version that a name points to. Rollback removes the top of `stack`; `history` has every move."""

    name: str
    alias: str
    stack: tuple[str, ...]
    history: tuple[AliasMove, ...]

    @property
    def version(self) -> str:
        """The current version."""
        return self.stack[-1]
