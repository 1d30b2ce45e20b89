"""Whether the record of past runs is what was written: each run's record carries the hash of the one before.

An edited, removed or inserted record shows. Somebody who may write to the schema ``rollout`` can still cut off the
newest records, or compute the whole chain anew; reports kept elsewhere show that.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout.memory import chain_hash, exists
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Row

_BATCH = 50  # a record may hold thousands of findings

_RUNS = """
SELECT number, run_id, command, started_at, finished_at, from_revision, to_revision, ok, exit_code,
       record, previous_hash, hash
FROM rollout.runs WHERE number > :after ORDER BY number LIMIT :batch
"""

_COLUMNS = ("run_id", "command", "started_at", "finished_at", "from_revision", "to_revision", "ok", "exit_code")


def verify_chain(connection: Connection) -> list[str]:
    """Return one line for each run whose record no longer fits, beginning with its id; none where all is as written.

    A run that was killed has no record, and is no break in the chain.
    """
    if not exists(connection):
        return []
    problems: list[str] = []
    hashes: set[str] = set()
    links: list[tuple[str, str | None]] = []
    for row in _rows(connection):
        if row.hash is None:
            if row.record is not None or row.finished_at is not None:
                problems.append(say("{run}: its record has no hash", run=row.run_id))
            continue
        hashes.add(row.hash)
        links.append((row.run_id, row.previous_hash))
        problems += _changes(row)
    return [*problems, *_breaks(links, hashes)]


def _rows(connection: Connection) -> Iterator[Row[Any]]:
    """Yield the runs in batches, oldest first."""
    after = 0
    while rows := connection.execute(text(_RUNS), {"after": after, "batch": _BATCH}).all():
        yield from rows
        after = rows[-1].number


def _changes(row: Row[Any]) -> Iterator[str]:
    """Yield what of one run is not as it was written."""
    if chain_hash(row.previous_hash, row.record or "") != row.hash:
        yield say("{run}: its record was changed after it was written", run=row.run_id)
        return
    recorded = _parsed(row.record)
    for column in _COLUMNS:
        shown, written = getattr(row, column), recorded.get(column)
        if isinstance(shown, datetime) and isinstance(written, str):
            written = datetime.fromisoformat(written)
        if shown != written:
            yield say(
                "{run}: {column} was changed: it says {shown}, the record {written}",
                run=row.run_id,
                column=column,
                shown=shown,
                written=written,
            )


def _parsed(record: str) -> dict[str, Any]:
    """Parse a record; an empty one where it is none."""
    try:
        values = json.loads(record)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _breaks(links: list[tuple[str, str | None]], hashes: set[str]) -> Iterator[str]:
    """Yield the runs that follow one that is not there, or one that another run follows too."""
    followed: dict[str | None, str] = {}
    for run_id, previous in links:
        if previous is not None and previous not in hashes:
            yield say("{run}: the run before it was removed or changed", run=run_id)
        elif previous in followed:
            yield say(
                "{run}: it follows the same run as {other}; one was removed or put in",
                run=run_id,
                other=followed[previous],
            )
        followed.setdefault(previous, run_id)
