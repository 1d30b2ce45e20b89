"""Which backups may go: of our own databases, but those that a run in history points to, for somebody to go back to."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout.database import describe, engine_for
from rollout.errors import RolloutError
from rollout.memory import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from rollout.database import Target
    from rollout.settings import Settings

_AT_ONCE = 50  # a record may hold thousands of findings


@dataclass(frozen=True)
class Asked:
    """The target; the databases (host:port/name) whose backups are ours to delete; the names that history points to."""

    target: Target
    places: list[str]
    pointed: set[str]


def asked(settings: Settings) -> Asked:
    """Ask the target which backups the runs in its history point to; raises ``DatabaseUnavailable``.

    Ours are those of the target, and of the source where it answers: no run points to one of the source. Whether those
    of other databases are still needed, only their own history knows.
    """
    with engine_for(settings.target).connect() as connection:
        target = describe(connection, settings.target)
        pointed = set(_names(connection)) if readable(connection) else set()
    places = [target.place]
    if settings.source is not None:
        with suppress(RolloutError), engine_for(settings.source).connect() as connection:
            places.append(describe(connection, settings.source).place)
    return Asked(target, places, pointed)


def _names(connection: Connection) -> Iterator[str]:
    """Yield the names of the backups that were used."""
    after = 0
    query = text("SELECT number, record FROM rollout.runs WHERE number > :after ORDER BY number LIMIT :some")
    while rows := connection.execute(query, {"after": after, "some": _AT_ONCE}).all():
        for row in rows:
            path = _parsed(row.record).get("backup")
            if isinstance(path, str):
                yield PurePath(path).name
        after = rows[-1].number


def _parsed(record: str | None) -> dict[str, object]:
    """Return a run's record; an empty one where there is none (yet), or it is damaged."""
    try:
        values = json.loads(record or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
