"""Studies that have begun, each stored once with its definition and pairs, and whether they have ended."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Literal

from harmonixr_platform.feedback.errors import BadStudy, UnknownPool
from harmonixr_platform.feedback.records.pools import checked_name
from harmonixr_platform.feedback.studies.definition import Study
from harmonixr_platform.schemas import Strict
from harmonixr_platform.stores.errors import ConditionFailed, NotFound
from harmonixr_platform.stores.objects import ObjectStore

STUDIES = "feedback/studies/"


class StudyPair(Strict):
    """A pair of the study and the arms of its fills."""

    pair_id: str
    first: str
    second: str


class GoldPair(Strict):
    """A pair with a known outcome."""

    pair_id: str
    expected: Literal["first", "second", "tie"]


class BegunStudy(Strict):
    """A study that has begun. `models` has the version that each arm's alias named at that time."""

    study: Study
    models: dict[str, str]
    pairs: tuple[StudyPair, ...]
    gold: tuple[GoldPair, ...]
    begun: datetime


class StudyEnd(Strict):
    """When a study ended, and the reason."""

    closed: datetime
    reason: str


class StudyStore:
    """Studies in an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def begin(self, begun: BegunStudy) -> BegunStudy:
        """Open a study and return it as stored; raise BadStudy if its name has another definition."""
        name = begun.study.name
        with contextlib.suppress(ConditionFailed):
            self._store.put_if_absent(_key(name, "study"), begun.model_dump_json().encode())
        self.check_free(begun.study)
        return self.get(name) or begun

    def check_free(self, study: Study) -> None:
        """Raise BadStudy if a study of this name has begun with another definition."""
        begun = self.get(study.name)
        if begun is not None and begun.study.version != study.version:
            raise BadStudy(
                f"study {study.name!r} has begun as {begun.study.version} and this definition is {study.version}; "
                "a study cannot change once listeners have judged it, so give the new one another name"
            )

    def get(self, name: str) -> BegunStudy | None:
        """Return a study that has begun, or None."""
        try:
            return BegunStudy.model_validate_json(self._store.get(_key(name, "study")).data)
        except NotFound:
            return None

    def need(self, name: str) -> BegunStudy:
        """Return a study that has begun; raise UnknownPool if there is none."""
        found = self.get(name)
        if found is None:
            known = ", ".join(self.names()) or "none"
            raise UnknownPool(f"no study {name!r} has begun (there is: {known}); see `harmonixr feedback study begin`")
        return found

    def close(self, name: str, *, reason: str, now: datetime) -> StudyEnd:
        """End a study; return the stored end, which the first call decides."""
        self.need(name)
        end = StudyEnd(closed=now, reason=reason)
        with contextlib.suppress(ConditionFailed):
            self._store.put_if_absent(_key(name, "closed"), end.model_dump_json().encode())
        return self.closed(name) or end

    def closed(self, name: str) -> StudyEnd | None:
        """Return the end of a study, or None while it continues."""
        try:
            return StudyEnd.model_validate_json(self._store.get(_key(name, "closed")).data)
        except NotFound:
            return None

    def names(self) -> tuple[str, ...]:
        """Return the studies that have begun."""
        return tuple(key.split("/")[2] for key in self._store.list(STUDIES) if key.endswith("/study.json"))


def _key(name: str, part: str) -> str:
    return f"{STUDIES}{checked_name(name)}/{part}.json"
