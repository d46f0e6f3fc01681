"""Settings from environment variables: folders, stores, secrets and ports.

Every variable starts with HARMONIXR_. An unknown variable raises an error with the most similar name. No `.env` file is
read, since `ray job submit` uploads such files. Secrets are `SecretStr`, so no log or traceback shows them.
"""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from harmonixr_model.errors import HarmonixrError

PREFIX = "HARMONIXR_"
# Variables of the test suites, which may be set in a developer's shell.
TEST_PREFIX = "HARMONIXR_TEST_"
SECRET_BYTES = 32

Port = Annotated[int, Field(ge=1, le=65535)]


class SettingsError(HarmonixrError):
    """A HARMONIXR_ variable is unknown or has an invalid value."""


def default_state_dir() -> Path:
    """Return `var` of the checkout, or the user's state folder if installed from a wheel.

    It does not depend on the working folder, which differs for Ray replicas.
    """
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / "var"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "harmonixr"


class Settings(BaseSettings):
    """The settings of the environment. `Settings()` raises SettingsError only."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    state_dir: Path = Field(default_factory=default_state_dir, description="all local state")
    redis_url: str = Field("", description="redis://host:port/db; empty: an embedded server under state_dir")
    redis_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="port of the embedded Redis; 0: any free port (Ray uses 6379)"
    )
    redis_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    object_store_url: str = Field("", description="file:///folder or s3://bucket/prefix; empty: state_dir/objects")
    s3_endpoint_url: str = Field("", description="an S3 server other than Amazon's")
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr = SecretStr("")
    s3_secret_key: SecretStr = SecretStr("")
    rater_secret: SecretStr = Field(
        SecretStr(""), description="keys raters' pseudonyms and signs tokens; empty: created once in state_dir"
    )
    comparison_ttl_s: Annotated[int, Field(ge=60)] = Field(86_400, description="how long a comparison may be judged")
    rater_per_minute: Annotated[int, Field(ge=0)] = Field(
        120, description="comparisons, and also judgments, that one rater key may send a minute; 0: no limit"
    )
    api_keys: SecretStr = Field(
        SecretStr(""), description="accepted API keys, separated by commas; empty: no key is required"
    )
    api_key: SecretStr = Field(SecretStr(""), description="the key that our own pages send to the API")
    host: str = Field("127.0.0.1", description="address that our servers bind to")
    api_port: Port = 8000
    ui_port: Port = 7860
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def __init__(self, **values: Any) -> None:
        _refuse_unknown(os.environ)
        try:
            super().__init__(**values)
        except ValidationError as error:
            # Only the first error, and never the value, which may be a secret.
            first = error.errors(include_input=False, include_url=False)[0]
            name = f"{PREFIX}{'_'.join(str(part) for part in first['loc'])}".upper()
            raise SettingsError(f"{name} is invalid: {first['msg']}") from None

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("give redis://host:port/db, rediss://… or unix://…, or leave it empty")
        return value

    @field_validator("object_store_url")
    @classmethod
    def _store_scheme(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in {"file", "s3"}:
            raise ValueError("give file:///folder or s3://bucket/prefix, or leave it empty")
        return value

    @property
    def objects_url(self) -> str:
        """The object store's address; by default a folder of state_dir."""
        return self.object_store_url or (self.state_dir / "objects").as_uri()

    def api_key_list(self) -> tuple[str, ...]:
        """Return the accepted API keys; empty if no key is required."""
        return tuple(key.strip() for key in self.api_keys.get_secret_value().split(",") if key.strip())

    def rater_key(self) -> bytes:
        """Return the secret that keys pseudonyms; if none is set, it is created once and stored (mode 0600).

        Several machines must share one: set HARMONIXR_RATER_SECRET there.
        """
        given = self.rater_secret.get_secret_value()
        return given.encode() if given else _stored_secret(self.state_dir / "rater_secret")


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    for name in environment:
        upper = name.upper()
        if upper.startswith(PREFIX) and not upper.startswith(TEST_PREFIX) and upper not in known:
            nearest = difflib.get_close_matches(upper, known, n=1, cutoff=0.0)[0]
            raise SettingsError(f"{name} is not a setting; did you mean {nearest}? Unset it or correct its name")


def _stored_secret(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Linked into place when complete, so that all processes which start simultaneously read the same secret.
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES))
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes().strip()
