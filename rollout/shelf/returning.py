"""What the shelf gives back during an upgrade: each table and column right after the revision that makes it.

So early that the backfills of later revisions find what people entered and fill in only what is missing. Rows whose
owner is gone, or whose place is taken, stay on the shelf with the reason. At the end it is proven row by row, over the
text of every value, that what came back is what was put away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError

from rollout import memory, own_rows
from rollout.database import in_text, quote
from rollout.messages import say
from rollout.operations import quietly
from rollout.shelf.entries import COLUMNS, MADE, ROWS, Entry, columns_of, drop_empty, entries, key_of
from rollout.shelf.fit import Fit, forget, if_taken
from rollout.shelf.proof import Returned, is_as_it_was, prove

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from rollout.run import Run

_REFERENCES = """
SELECT c.confrelid::regclass::text AS parent, c.confdeltype IN ('n', 'd') AS clears,
       array_agg(quote_ident(a.attname) ORDER BY k.n) AS here, array_agg(quote_ident(f.attname) ORDER BY k.n) AS there
FROM pg_constraint c CROSS JOIN unnest(c.conkey, c.confkey) WITH ORDINALITY AS k(here, there, n)
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.here
JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.there
WHERE c.contype = 'f' AND c.conrelid = CAST(:table AS regclass) AND c.confrelid <> c.conrelid
GROUP BY c.oid, c.confrelid, c.confdeltype ORDER BY 1, 3
"""

_ONE_BY_ONE = """
DO $put$
DECLARE
    place tid;
BEGIN
    FOR place IN SELECT s.ctid FROM {shelf} AS s WHERE {fits} LOOP
        BEGIN
            {insert} WHERE s.ctid = place AND {whole} ON CONFLICT DO NOTHING;
        EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
            NULL; -- it stays on the shelf
        END;
    END LOOP;
END
$put$"""


class PutBack:
    """What an upgrade takes from the shelf, inside its transaction."""

    def __init__(self, run: Run) -> None:
        """Take the run, whose result says what came back."""
        self.run = run
        self.returned: list[Returned] = []

    def begin(self, connection: Connection) -> dict[str, Any]:
        """Look what is on the shelf; return what is to be called after each revision (``rollout.environment``)."""
        self.connection = connection
        self.entries = entries(connection)
        self.preexisting = memory.preexisting(connection)
        return {"applied": self._applied} if self.entries else {}

    def _applied(self, revision: str) -> None:
        """Put back what this revision has made a place for; of several shelves the newest first."""
        waiting = [entry for entry in self.entries if entry.revision == revision]
        sources = {entry.source for entry in waiting if entry.kind == ROWS}
        while waiting:
            ready = [
                entry
                for entry in waiting
                if entry.kind == COLUMNS
                or not {parent for parent, *_ in self._references(entry)} & (sources - {entry.source})
            ] or waiting
            for entry in ready:
                self._put_back(entry)
            waiting = [entry for entry in waiting if entry not in ready]
            sources -= {entry.source for entry in ready}

    def _references(self, entry: Entry) -> list[tuple[str, bool, list[str], list[str]]]:
        """Return the foreign keys of an entry's table: (parent, whether it is cleared, columns here, columns there)."""
        table = quote("public", entry.source)
        if self.connection.execute(text("SELECT to_regclass(:table)"), {"table": table}).scalar_one() is None:
            return []
        return [tuple(row) for row in self.connection.execute(text(_REFERENCES), {"table": table})]

    def _put_back(self, entry: Entry) -> None:
        """Put one entry back, as far as it fits."""
        # Somebody had dropped the primary key: the table that is made again has it.
        if not entry.key:
            key = key_of(self.connection, quote("public", entry.source))
            entry = replace(entry, key=key, key_was_gone=True)
        outcome = Returned(entry)
        self.returned.append(outcome)
        problem = self._misfit(entry)
        if problem is not None:
            outcome.fits = False
            outcome.why.append(problem)
        elif entry.kind == ROWS:
            self._rows(outcome)
        else:
            self._values(outcome)

    def _misfit(self, entry: Entry) -> str | None:
        """Say why nothing of an entry can go back; None where it can."""
        if not is_as_it_was(self.connection, entry):
            return say("what is on the shelf is not what was put away: it was changed there")
        there = columns_of(self.connection, quote("public", entry.source))
        for column in entry.columns:
            if column not in there:
                return say("there is no column {column} any more", column=f"{entry.source}.{column}")
            if entry.kind == COLUMNS and f"column {entry.source}.{column}" in self.preexisting:
                return say("the column {column} was there already", column=f"{entry.source}.{column}")
        if entry.key_was_gone and self._holds_rows(entry.source):
            return say("newer rows are there, and the table had lost its key: compare them by hand")
        if entry.kind == COLUMNS and any(_same_columns(one.entry, entry) for one in self.returned if one.fits):
            return say("newer values of these columns came back")
        return None

    def _holds_rows(self, table: str) -> bool:
        """Tell whether a table has any row."""
        rows = f"SELECT EXISTS (SELECT FROM {quote('public', table)})"
        return bool(self.connection.exec_driver_sql(rows).scalar_one())

    def _rows(self, outcome: Returned) -> None:
        """Insert the rows of a table whose owners are there; first those that an upgrade had made."""
        entry, table, fit = outcome.entry, quote("public", outcome.entry.source), Fit(self.connection, outcome.entry)
        fits, whole = self._owners(outcome, fit), fit.taken(entry.columns)
        names = ", ".join(quote(name) for name in entry.columns)
        values = ", ".join(fit.value(name) for name in entry.columns)
        insert = f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {entry.table} AS s"
        made = own_rows.written_by(entry.made_by, "s") if fit.is_as_made() else "false"
        outcome.given = self.connection.exec_driver_sql(
            f"{insert} WHERE {made} AND {fits} AND {whole} ON CONFLICT DO NOTHING"
        ).rowcount
        try:
            # A savepoint is a transaction of its own in xmin: a receipt will still tell these rows from the upgrade's.
            with self.connection.begin_nested():
                outcome.given += self.connection.exec_driver_sql(
                    f"{insert} WHERE NOT {made} AND {fits} AND {whole} ON CONFLICT DO NOTHING"
                ).rowcount
        except (IntegrityError, DataError):
            one_by_one = _ONE_BY_ONE.format(
                shelf=entry.table, fits=f"NOT {made} AND {fits}", insert=insert, whole=whole
            )
            self.connection.execute(text(one_by_one.replace(":", r"\:")))
        self._advance(entry, table)

    def _owners(self, outcome: Returned, fit: Fit) -> str:
        """Return the condition that the rows which a row of ``s`` refers to are there; clear references that may be."""
        entry, conditions = outcome.entry, ["true"]
        for parent, clears, here, there in self._references(entry):
            filled = " AND ".join(f"s.{column} IS NOT NULL" for column in here)
            same = " AND ".join(fit.same(f"p.{b}", a) for a, b in zip(here, there, strict=True))
            lost = f"{filled} AND NOT EXISTS (SELECT FROM {parent} AS p WHERE {same})"
            if clears:
                unset = ", ".join(f"{column} = NULL" for column in here)
                count = self.connection.exec_driver_sql(f"UPDATE {entry.table} AS s SET {unset} WHERE {lost}").rowcount
                outcome.cleared += count
                continue
            conditions.append(f"NOT ({lost})")
            count = self.connection.exec_driver_sql(
                f"SELECT count(*) FROM {entry.table} AS s WHERE {lost}"
            ).scalar_one()
            if count:
                outcome.why.append(
                    say("{count} row(s) refer to rows of {table} that are gone", count=count, table=parent)
                )
        return " AND ".join(conditions)

    def _advance(self, entry: Entry, table: str) -> None:
        """Let the table's sequences go on where they were, so that no number is given twice."""
        sequences = columns_of(self.connection, table)
        for column, position in entry.sequences.items():
            if sequences.get(column):
                self.connection.execute(
                    text(f"SELECT setval(:name, greatest(:position, (SELECT max({in_text(column)}) FROM {table})))"),
                    {"name": sequences[column], "position": position},
                )

    def _values(self, outcome: Returned) -> None:
        """Set the values of columns on the rows that are still there; other people's triggers keep still."""
        entry, table, fit = outcome.entry, quote("public", outcome.entry.source), Fit(self.connection, outcome.entry)
        outcome.refused = refused = fit.refused()
        new = ", ".join(
            f"{quote(name)} = "
            + if_taken(refused.get(name), f"coalesce({fit.value(name)}, t.{quote(name)})", f"t.{quote(name)}")
            for name in entry.columns
        )
        update = f"UPDATE {table} AS t SET {new} FROM {entry.table} AS s WHERE {fit.same_key()} AND"
        made = f"coalesce(s.{MADE}, false)"  # a row that somebody added on the shelf may not say
        self.connection.execute(quietly(entry.source, f"{update} {made}"))
        with self.connection.begin_nested():
            self.connection.execute(quietly(entry.source, f"{update} NOT {made}"))
        pairs = f"{entry.table} AS s JOIN {table} AS t ON {fit.same_key()}"
        there = outcome.given = self._count(pairs)
        if there < entry.rows:
            outcome.why.append(say("{count} row(s) of {table} are gone", count=entry.rows - there, table=entry.source))
        for column, taken in refused.items():
            count = self._count(f"{pairs} WHERE NOT {taken}")
            if count:
                where = f"{entry.source}.{column}"
                outcome.why.append(
                    say(
                        "{count} value(s) do not fit {column}; the rest of their rows came back",
                        count=count,
                        column=where,
                    )
                )
        if refused:
            outcome.given = self._count(f"{pairs} WHERE {' AND '.join(refused.values())}")

    def _count(self, rows: str) -> int:
        return int(self.connection.exec_driver_sql(f"SELECT count(*) FROM {rows}").scalar_one())

    def end(self) -> None:
        """Prove that what came back is what was put away, and take it from the shelf. Raises ``MigrationFailed``."""
        if not self.returned:
            return
        with self.run.step("unshelve") as step:
            for outcome in self.returned:
                prove(self.connection, outcome)
            forget(self.connection)
            drop_empty(self.connection)
            self.run.result["unshelved"] = [outcome.as_json() for outcome in self.returned]
            back = sum(outcome.back for outcome in self.returned)
            left = sum(outcome.entry.rows for outcome in self.returned) - back
            step.detail = say("{back} row(s) put back, {left} left on the shelf", back=back, left=left)


def _same_columns(one: Entry, other: Entry) -> bool:
    """Tell whether two entries hold values of the same columns."""
    return one is not other and (one.kind, one.source, one.revision) == (other.kind, other.source, other.revision)
