"""What every schema is made from. Knows nothing of music."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown keys fail; records never change after they are made."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Problem(Strict):
    """An error as RFC 9457 `application/problem+json` says it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[dict[str, str], ...] = ()
