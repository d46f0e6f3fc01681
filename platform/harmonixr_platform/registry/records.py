"""What the registry writes down: a version with its lineage, an alias with its history. Knows nothing of where."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field

from harmonixr_model.errors import HarmonixrError
from harmonixr_platform.schemas import Strict


class RegistryError(HarmonixrError):
    """A model, version or alias that does not exist, or a change that somebody else made first."""

    status: ClassVar[int] = 404


class Lineage(Strict):
    """Where a version comes from: enough to make it again and to say how good it was."""

    data: dict[str, Any] = Field(default_factory=dict, description="corpus or manifests: name, hash, licence, counts")
    config: dict[str, Any] = Field(default_factory=dict, description="the whole job file")
    code: str = Field(default="", description="commit that trained it")
    metrics: dict[str, float] = Field(default_factory=dict)
    parents: tuple[str, ...] = Field(default=(), description="versions it was made from, as name/version")
    note: str = ""


class Version(Strict):
    """One immutable version. Its number is the beginning of its file's SHA-256."""

    name: str
    version: str
    file: str
    sha256: str
    size_bytes: int
    lineage: Lineage
    created: datetime

    @property
    def key(self) -> str:
        """Where its file lies in the object store."""
        return f"registry/{self.name}/{self.version}/{self.file}"


class Check(Strict):
    """One thing the gate asked of a version: what it measured, what it wanted, and both as a sentence."""

    name: str
    passed: bool
    measured: float | None
    wanted: float
    sentence: str


class Promotion(Strict):
    """What the gate decided, and on what grounds. Written once, named by its content; refusals are kept too."""

    name: str
    alias: str
    version: str
    champion: str
    promoted: bool
    checks: tuple[Check, ...]
    evidence: dict[str, Any] = Field(description="the numbers behind the checks, for both versions")
    data: str = Field(description="hash of the judgments that were read")
    gate: dict[str, Any] = Field(description="the gate's settings in force")
    simulated: bool = Field(description="whether the judgments were made by programs")
    code: str = ""
    decided: datetime

    @property
    def promotion_id(self) -> str:
        """The beginning of the SHA-256 of its content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was refused; empty where it was not."""
        return tuple(check.sentence for check in self.checks if not check.passed)


class AliasMove(Strict):
    """One change of an alias."""

    version: str
    reason: str
    at: datetime


class Alias(Strict):
    """What a name in service points to. `stack` is what rollback goes down; `history` keeps every move ever made."""

    name: str
    alias: str
    stack: tuple[str, ...]
    history: tuple[AliasMove, ...]

    @property
    def version(self) -> str:
        """The version in force."""
        return self.stack[-1]
