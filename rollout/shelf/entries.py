"""The shelf: the schema ``rollout_shelf``, where rollbacks put what people entered, for the next upgrade to give back.

A table that goes is moved there (nothing is copied), without its constraints, defaults and sequences, so that it holds
on to nothing; columns that go leave their values by primary key. Each table on the shelf says in its comment what it
is, so that the shelf explains itself without any other memory. ``rollout.shelf.returning`` puts rows back.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout import manifest, memory, own_rows, plan
from rollout.database import identifier, quote, server_major
from rollout.errors import RollbackFailed
from rollout.fingerprint import table_fingerprint
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from rollout.run import Run

SHELF = "rollout_shelf"
ROWS, COLUMNS = "rows", "columns"
MADE = "rollout_made"
"""Column beside the values of columns: whether the upgrade made the row, and nobody changed it since."""

_TABLES = f"""
SELECT c.relname AS name, obj_description(c.oid, 'pg_class') AS comment, pg_total_relation_size(c.oid) AS bytes
FROM pg_class c WHERE c.relnamespace = to_regnamespace('{SHELF}') AND c.relkind IN ('r', 'p')
"""

_LET_GO = Path(__file__).parents[1] / "sql" / "let_go.sql"

_COLUMNS = """
SELECT attname, pg_get_serial_sequence(:table, attname) FROM pg_attribute
WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""

_FOREIGN_TYPES = """
SELECT attname FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND t.typnamespace <> 'pg_catalog'::regnamespace
"""

CONSTANT = re.compile(r"('(?:[^']|'')*'(?:::[a-z ]+)?|true|false|-?\d+(?:\.\d+)?)", re.IGNORECASE)
"""A default that gives every row the same value: only then can a value be told from one that was entered."""

_KEY = """
SELECT a.attname FROM pg_index x CROSS JOIN unnest(x.indkey) WITH ORDINALITY k(number, position)
JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number
WHERE x.indrelid = CAST(:table AS regclass) AND x.indisprimary ORDER BY k.position
"""


@dataclass(frozen=True)
class Entry:
    """One table on the shelf: rows of ``source``, or values of some of its columns beside its ``key``.

    ``revision`` made what went; ``made_by``: transactions of the upgrades that made rows; ``digest``: fingerprint of
    what was put away; ``sequences``: positions by column; ``why``: why what is still here did not fit last time;
    ``key_was_gone``: somebody had dropped the primary key, so that ``key`` was found later and may be there twice.
    """

    name: str
    run_id: str
    source: str
    kind: str
    revision: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: int
    digest: str
    shelved_at: str
    made_by: tuple[int, ...] = ()
    sequences: dict[str, int] = field(default_factory=dict)
    why: tuple[str, ...] = ()
    key_was_gone: bool = False
    bytes: int = 0

    @property
    def object(self) -> str:
        """What it is, as receipts name it."""
        return f"table {self.source}" if self.kind == ROWS else f"columns {self.source} ({', '.join(self.columns)})"

    @property
    def table(self) -> str:
        """The table on the shelf, quoted for SQL."""
        return quote(SHELF, self.name)

    @property
    def fingerprinted(self) -> tuple[str, ...]:
        """The columns that the digest covers."""
        return self.columns if self.kind == ROWS else (*self.key, *self.columns)

    def as_json(self) -> dict[str, Any]:
        """Return what `tool shelf` shows."""
        shown = {"run_id": self.run_id, "object": self.object, "rows": self.rows, "bytes": self.bytes}
        return {**shown, "shelved_at": self.shelved_at, "table": identifier(SHELF, self.name), "why": list(self.why)}

    def label(self, connection: Connection) -> None:
        """Write down on the table what it is."""
        values = {k: v for k, v in asdict(self).items() if k not in {"name", "bytes"}}
        connection.exec_driver_sql(f"COMMENT ON TABLE {self.table} IS %s", (json.dumps(values, ensure_ascii=False),))


def entries(connection: Connection) -> list[Entry]:
    """Return what is on the shelf, newest first; tables there without our label are none of ours."""
    found = [_entry(row.name, row.comment or "", row.bytes) for row in connection.execute(text(_TABLES))]
    return sorted((one for one in found if one), key=lambda one: (one.shelved_at, one.name), reverse=True)


def _entry(name: str, comment: str, size: int) -> Entry | None:
    """Return what a table's label says it is; None where it is not one of ours."""
    try:
        values = json.loads(comment)
        lists = {field: tuple(values[field]) for field in ("columns", "key", "made_by", "why")}
        return Entry(**{**values, **lists, "name": name, "bytes": size})
    except (ValueError, TypeError, KeyError):
        return None


def name_for(run_id: str, source: str, revision: str = "") -> str:
    """Return the shelf's name for rows of a table, or for its columns of one revision."""
    return f"{run_id}_{revision}{'_' if revision else ''}{source}"[:63]


def columns_of(connection: Connection, table: str) -> dict[str, str | None]:
    """Return the columns of a quoted table, each with its own sequence where it has one."""
    return {row[0]: row[1] for row in connection.execute(text(_COLUMNS), {"table": table})}


def key_of(connection: Connection, table: str) -> tuple[str, ...]:
    """Return the columns of a quoted table's primary key."""
    return tuple(connection.execute(text(_KEY), {"table": table}).scalars())


class PutAway:
    """What a rollback puts on the shelf, in its transaction: columns before the revisions, tables in place of DROP."""

    def __init__(self, run: Run, steps: plan.Plan) -> None:
        """Take the run, whose id names what it puts away, and the revisions that go."""
        self.run = run
        self.steps = steps
        self.put: list[Entry] = []

    def begin(self, connection: Connection) -> dict[str, Any]:
        """Put away the columns; return what is to be called in place of DROP TABLE (``rollout.environment.run_on``)."""
        self.connection = connection
        self.wanted = manifest.at([one.id for one in plan.up_to(self.steps.start)], major=server_major(connection))
        # Now: the revisions forget their transactions as they go.
        self.transactions = tuple(own_rows.transactions(connection))
        self.before = entries(connection)
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SHELF}")
        connection.exec_driver_sql(f"REVOKE ALL ON SCHEMA {SHELF} FROM PUBLIC")
        with self.run.step("shelve") as step:
            for (table, revision), columns in going_columns(connection, self.steps).items():
                self._put_columns(table, revision, columns)
            step.detail = say("{count} object(s) put into {schema}", count=len(self.put), schema=SHELF)
        going = self.wanted.of_revisions([one.id for one in self.steps.revisions])
        whole = {key.removeprefix("table ") for key, _ in going if key.startswith("table ")}
        return {"put_away": self._put_table, "whole": whole}

    def end(self) -> None:
        """Write down on each table what it is, and in the run what was put away."""
        for entry in self.put:
            entry.label(self.connection)
        drop_empty(self.connection)
        self.run.result["shelf"] = [entry.as_json() for entry in reversed(self.put)]

    def _entry(self, name: str, source: str, kind: str, revision: str) -> Entry:
        """Return an entry that is still to be filled; refuse a name that is taken."""
        there = {"name": identifier(SHELF, name)}
        taken = self.connection.execute(text("SELECT to_regclass(:name)"), there).scalar_one()
        if taken is not None:
            raise RollbackFailed(
                say("the shelf already holds {name}", name=f"{SHELF}.{name}"),
                hint=say("See `tool shelf list`; `tool shelf drop RUN` removes what is no longer needed."),
            )
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        return Entry(name, self.run.run_id, source, kind, revision, (), (), 0, "", moment)

    def _put_columns(self, table: str, revision: str, columns: list[str]) -> None:
        """Copy the values of columns, by primary key, where they are others than the columns come back with."""
        entry = self._entry(name_for(self.run.run_id, table, revision), table, COLUMNS, revision)
        source = quote("public", table)
        key = key_of(self.connection, source) or ("id",)
        entry = replace(entry, columns=tuple(columns), key=key)
        foreign = {*self.connection.execute(text(_FOREIGN_TYPES), {"table": source}).scalars()} - {*key}
        chosen = ", ".join(
            f"t.{quote(name)}" + (f"::text AS {quote(name)}" if name in foreign else "") for name in entry.fingerprinted
        )
        self.connection.exec_driver_sql(
            f"CREATE TABLE {entry.table} AS"
            f" SELECT {chosen}, {own_rows.written_by(self.transactions, 't')} AS {MADE} FROM {source} AS t"
            f" WHERE {self._others(entry)}"
        )
        self._counted(entry)

    def _others(self, entry: Entry) -> str:
        """Return the condition that a row of ``t`` has other values than those that the columns come back with.

        Told by what the revision does, not by the columns as they are: their owner may have made them again. Beside
        older values of the same columns every row counts, so that these come back over none of today's.
        """
        if any(one.kind == COLUMNS and one.revision == entry.revision for one in self.before):
            return "true"
        made = manifest.at([one.id for one in plan.up_to(entry.revision)], major=server_major(self.connection)).objects
        conditions = []
        for column in entry.columns:
            definition = made[f"column {entry.source}.{column}"]
            default = str(definition.get("default"))
            if not definition["not_null"]:
                conditions.append(f"t.{quote(column)} IS NOT NULL")
            elif CONSTANT.fullmatch(default):  # on a table with rows, NOT NULL comes with a default or not at all
                # As text: its owner may have given the column another type.
                conditions.append(f"t.{quote(column)}::text IS DISTINCT FROM ({default})::text")
            else:
                return "true"
        return " OR ".join(conditions)

    def _put_table(self, table: str) -> None:
        """Move a table to the shelf as it is; one without rows is dropped."""
        source = quote("public", table)
        if not self.connection.exec_driver_sql(f"SELECT EXISTS (SELECT FROM {source})").scalar_one():
            self.connection.exec_driver_sql(f"DROP TABLE {source}")
            return
        revision = self.wanted.made_by[f"table {table}"]
        entry = self._entry(name_for(self.run.run_id, table), table, ROWS, revision)
        columns = columns_of(self.connection, source)
        sequences = {name: self._position(sequence) for name, sequence in columns.items() if sequence}
        key = key_of(self.connection, source)
        entry = replace(entry, columns=tuple(columns), key=key, made_by=self.transactions)
        let_go = text(_LET_GO.read_text(encoding="utf-8").format(table=source))
        for _, statement in self.connection.execute(let_go, {"table": source}).all():
            self.connection.exec_driver_sql(statement)
        self.connection.exec_driver_sql(f"ALTER TABLE {source} RENAME TO {quote(entry.name)}")
        self.connection.exec_driver_sql(f"ALTER TABLE {quote('public', entry.name)} SET SCHEMA {SHELF}")
        self._counted(replace(entry, sequences={name: value for name, value in sequences.items() if value is not None}))

    def _position(self, sequence: str) -> int | None:
        """Return a sequence's last value; None where it was never used."""
        last, called = self.connection.exec_driver_sql(f"SELECT last_value, is_called FROM {sequence}").one()
        return int(last) if called else None

    def _counted(self, entry: Entry) -> None:
        """Keep an entry with the fingerprint of what it holds; one that holds nothing goes."""
        found = table_fingerprint(self.connection, SHELF, entry.name, entry.fingerprinted)
        if found.rows:
            self.put.append(replace(entry, rows=found.rows, digest=found.digest))
        else:
            self.connection.exec_driver_sql(f"DROP TABLE {entry.table}")


def going_columns(connection: Connection, steps: plan.Plan) -> dict[tuple[str, str], list[str]]:
    """Return the columns of ours that go from a table that another revision made: (table, revision) → columns."""
    wanted = manifest.at([one.id for one in plan.up_to(steps.start)], major=server_major(connection))
    preexisting = memory.preexisting(connection)
    going: dict[tuple[str, str], list[str]] = {}
    for key, _ in wanted.of_revisions([one.id for one in steps.revisions]):
        kind, _, name = key.partition(" ")
        table, _, column = name.rpartition(".")
        made_table = wanted.made_by.get(f"table {table}")
        if kind == "column" and made_table not in {None, wanted.made_by[key]} and key not in preexisting:
            going.setdefault((table, wanted.made_by[key]), []).append(column)
    there = {table: columns_of(connection, quote("public", table)) for table, _ in going}
    return {key: kept for key, names in going.items() if (kept := [one for one in names if one in there[key[0]]])}


def drop(connection: Connection, chosen: Iterable[Entry]) -> None:
    """Drop these from the shelf, and the shelf itself when nothing is left on it."""
    for entry in chosen:
        connection.exec_driver_sql(f"DROP TABLE {entry.table}")
    drop_empty(connection)


def drop_empty(connection: Connection) -> None:
    """Drop the shelf's schema where nothing is left in it."""
    if connection.execute(text(f"SELECT to_regnamespace('{SHELF}') IS NOT NULL")).scalar_one():
        left = connection.execute(
            text(
                f"SELECT EXISTS (SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass"
                f" AND refobjid = to_regnamespace('{SHELF}'))"
            )
        )
        if not left.scalar_one():
            connection.exec_driver_sql(f"DROP SCHEMA {SHELF}")
