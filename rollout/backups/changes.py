"""The database of today and a backup of it side by side: what a restore would not bring back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from rollout.contents import hash_of, relations, table_contents
from rollout.database import OUR_SCHEMAS, first_line, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from rollout.contents import Contents, Relation, TableContent

# Rows are counted one by one up to here; it takes about a second for a million.
_COUNTED = 2_000_000
_AT_ONCE = 20_000


@dataclass(frozen=True)
class TableChange:
    """A table that holds something else today than in a backup; rows are None where there is no such table.

    ``beyond``: rows of today that the backup does not hold; ``gone``: rows of the backup that are not there today. A
    row that was changed is both. None where they were not counted.
    """

    schema: str
    name: str
    rows_then: int | None
    rows_now: int | None
    beyond: int | None = None
    gone: int | None = None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the change for the report."""
        return asdict(self)


def changes_since(
    today: Connection, restored: Connection, backup: Contents, told: Callable[[int], None] = lambda _: None
) -> list[TableChange]:
    """Return which tables of a database differ from a backup that is ``restored`` beside it.

    A table that cannot be read is a change with its ``problem``: a damaged database must not stop its own restore. Our
    own memory is left out. ``told`` hears the rows of each table that is done, as the backup has them.
    """
    then = {(table.schema, table.name): table for table in backup.tables if table.schema not in OUR_SCHEMAS}
    changes = []
    for one in relations(today, measured=False):
        if not one.is_compared or one.schema in OUR_SCHEMAS:
            continue
        table = then.pop((one.schema, one.name), None)
        try:
            change = _change(today, restored, one, table)
        except DBAPIError as error:
            if today.invalidated:
                raise
            change = TableChange(one.schema, one.name, table.rows if table else None, None, problem=first_line(error))
        if change is not None:
            changes.append(change)
        told(table.rows if table else 0)
    changes += [TableChange(schema, name, table.rows, None) for (schema, name), table in then.items()]
    return changes


def _change(today: Connection, restored: Connection, one: Relation, table: TableContent | None) -> TableChange | None:
    """Return how one table differs, or None."""
    columns = one.columns
    if table is not None and set(table.columns) <= set(one.columns):
        columns = table.columns
    now = table_contents(today, [(one, columns)])[0]
    if table is None:
        return TableChange(one.schema, one.name, None, now.rows, beyond=now.rows)
    if (now.rows, now.fingerprint) == (table.rows, table.fingerprint):
        return None
    change = TableChange(one.schema, one.name, table.rows, now.rows)
    if columns != table.columns or now.rows + table.rows > _COUNTED:
        return change
    with today.begin_nested():
        beyond, gone = _counted(_hashes(today, one, columns), _hashes(restored, one, columns))
    return replace(change, beyond=beyond, gone=gone)


def _hashes(connection: Connection, table: Relation, columns: tuple[str, ...]) -> Iterator[int]:
    """Yield the hashes of a table's rows in ascending order."""
    hashes = f"SELECT {hash_of(table, columns)} FROM ONLY {quote(table.schema, table.name)} AS q ORDER BY 1"
    streamed = {"stream_results": True, "max_row_buffer": _AT_ONCE}
    with connection.exec_driver_sql(hashes, execution_options=streamed) as rows:
        for row in rows:
            yield int(row[0])


def _counted(ours: Iterator[int], theirs: Iterator[int]) -> tuple[int, int]:
    """Return how many values of the first are not in the second, and the other way round; both ascend."""
    beyond = gone = 0
    one, other = next(ours, None), next(theirs, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one < other):
            beyond += 1
            one = next(ours, None)
        elif one is None or other < one:
            gone += 1
            other = next(theirs, None)
        else:
            one, other = next(ours, None), next(theirs, None)
    return beyond, gone
