"""Studies that have begun: the definition with its pairs, written once and whole; and whether one has ended.

Knows nothing of raters or of how fills are made.
"""

from __future__ import annotations

import contextlib
import re
from datetime import datetime
from typing import Literal

from harmonixr_platform.feedback.errors import BadStudy, UnknownPool
from harmonixr_platform.feedback.studies.definition import Study
from harmonixr_platform.schemas import Strict
from harmonixr_platform.stores.errors import ConditionFailed, NotFound
from harmonixr_platform.stores.objects import ObjectStore

STUDIES = "feedback/studies/"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class StudyPair(Strict):
    """A pair of the study and the arms of its fills."""

    pair_id: str
    first: str
    second: str


class GoldPair(Strict):
    """A pair with a known answer."""

    pair_id: str
    expected: Literal["first", "second", "tie"]


class Begun(Strict):
    """A study that listeners may hear. `models` names the version that each arm's alias meant."""

    study: Study
    models: dict[str, str]
    pairs: tuple[StudyPair, ...]
    gold: tuple[GoldPair, ...]
    begun: datetime


class Closed(Strict):
    """When a study ended, and why."""

    closed: datetime
    reason: str


class StudyStore:
    """Studies on an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def begin(self, begun: Begun) -> Begun:
        """Open a study; the same definition again changes nothing. Raises BadStudy where its name is taken."""
        name = begun.study.name
        with contextlib.suppress(ConditionFailed):
            self._store.put_if_absent(_key(name, "study"), begun.model_dump_json().encode())
        held = self.get(name)
        if held is None or held.study.version != begun.study.version:
            self.check_free(begun.study)
        return held or begun

    def check_free(self, study: Study) -> None:
        """Raise BadStudy where a study of this name has begun with another definition."""
        held = self.get(study.name)
        if held is not None and held.study.version != study.version:
            raise BadStudy(
                f"study {study.name!r} has begun as {held.study.version} and this definition is {study.version}; "
                "what listeners already heard cannot change, so give the new one another name"
            )

    def get(self, name: str) -> Begun | None:
        """Return a study that has begun, or None."""
        try:
            return Begun.model_validate_json(self._store.get(_key(name, "study")).data)
        except NotFound:
            return None

    def need(self, name: str) -> Begun:
        """Return a study that has begun; raise UnknownPool where there is none."""
        found = self.get(name)
        if found is None:
            known = ", ".join(self.names()) or "none"
            raise UnknownPool(f"no study {name!r} has begun (there is: {known}); see `harmonixr feedback study begin`")
        return found

    def close(self, name: str, *, reason: str, now: datetime) -> Closed:
        """End a study for good; return when and why it ended, which the first call decides."""
        self.need(name)
        with contextlib.suppress(ConditionFailed):
            record = Closed(closed=now, reason=reason)
            self._store.put_if_absent(_key(name, "closed"), record.model_dump_json().encode())
        return Closed.model_validate_json(self._store.get(_key(name, "closed")).data)

    def closed(self, name: str) -> Closed | None:
        """Return when and why a study ended, or None while it goes on."""
        try:
            return Closed.model_validate_json(self._store.get(_key(name, "closed")).data)
        except NotFound:
            return None

    def names(self) -> tuple[str, ...]:
        """Return the studies that have begun."""
        return tuple(key.split("/")[2] for key in self._store.list(STUDIES) if key.endswith("/study.json"))


def _key(name: str, part: str) -> str:
    if not _NAME.fullmatch(name):
        raise UnknownPool(f"{name!r} cannot be the name of a study; use small letters, digits, '-' and '_'")
    return f"{STUDIES}{name}/{part}.json"
