"""Which backups the runs in history point to: those that somebody may still want to go back to."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout.database import engine_for
from rollout.memory import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from rollout.settings import Settings

_AT_ONCE = 50  # a record may hold thousands of findings


def pointed(settings: Settings) -> set[str]:
    """Return the names of the backups that runs in the target's history name; raises ``DatabaseUnavailable``."""
    engine = engine_for(settings.target)
    try:
        with engine.connect() as connection:
            return set(_names(connection)) if readable(connection) else set()
    finally:
        engine.dispose()


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
