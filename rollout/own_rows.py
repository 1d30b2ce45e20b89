"""Which rows the upgrade itself made, told by the transaction that wrote them.

``rollout.applied_revisions`` keeps the transaction of each upgrade; a row whose ``xmin`` is one of those was made by it
and not changed since (https://www.postgresql.org/docs/current/ddl-system-columns.html). Everything else was entered or
changed by people, or came by another way that counts as theirs: a restore writes every row anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import adopt, plan
from rollout.database import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

_REFERRED_TO_BY = """
SELECT c.conrelid::regclass::text, quote_ident(c.conname),
       array_agg(quote_ident(a.attname) ORDER BY k.n), array_agg(quote_ident(f.attname) ORDER BY k.n)
FROM pg_constraint c
CROSS JOIN unnest(c.conkey, c.confkey) WITH ORDINALITY AS k(here, there, n)
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.here
JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.there
WHERE c.contype = 'f' AND c.confrelid = CAST(:name AS regclass)
GROUP BY c.oid, c.conrelid, c.conname
"""


def transactions(connection: Connection) -> list[int]:
    """Return the transactions of our upgrades, as ``xmin`` shows them (the lower half of the 64-bit id)."""
    known = connection.execute(text("SELECT DISTINCT transaction_id FROM rollout.applied_revisions ORDER BY 1"))
    return [identifier % 2**32 for identifier in known.scalars()]


def condition(connection: Connection) -> str:
    """Return the SQL condition that a row of ``t`` was made by one of our upgrades, and not changed since."""
    return written_by(transactions(connection), "t")


def written_by(known: Iterable[int], alias: str) -> str:
    """Return the SQL condition that a row of ``alias`` was written last by one of these transactions."""
    literals = ", ".join(f"'{identifier}'" for identifier in known)
    return f"({alias}.xmin = ANY(ARRAY[{literals}]::xid[]))"


def in_kept_tables(connection: Connection, steps: plan.Plan, preexisting: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Yield (table, rows) where these revisions, going down, made rows in a table that was there before us."""
    for table, rows in _kept_tables(connection, steps, preexisting):
        count = connection.exec_driver_sql(
            f"SELECT count(*) FROM {quote('public', table)} AS t WHERE {rows}"
        ).scalar_one()
        if count:
            yield table, int(count)


def remove_from_kept_tables(connection: Connection, steps: plan.Plan, preexisting: frozenset[str]) -> None:
    """Delete the rows that these revisions made in tables that were there before us; one that others refer to stays.

    References of tables that go are let go first.
    """
    going = {key for key, _ in adopt.made_by(connection, steps) if key not in preexisting}
    for table, rows in _kept_tables(connection, steps, preexisting):
        name, free = quote("public", table), ""
        for other, constraint, here, there in connection.execute(text(_REFERRED_TO_BY), {"name": name}).all():
            if f"table {other}" in going:
                connection.exec_driver_sql(f"ALTER TABLE {other} DROP CONSTRAINT {constraint}")
                continue
            same = " AND ".join(f"o.{a} = t.{b}" for a, b in zip(here, there, strict=True))
            free += f" AND NOT EXISTS (SELECT FROM {other} AS o WHERE {same})"
        connection.exec_driver_sql(f"DELETE FROM {name} AS t WHERE {rows}{free}")


def _kept_tables(connection: Connection, steps: plan.Plan, preexisting: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield (table, condition) for the kept tables of these revisions; the legacy core is none of them."""
    legacy = {key for key, _ in adopt.baseline_objects()}
    ours = [key for key, _ in adopt.made_by(connection, steps) if key in preexisting and key not in legacy]
    kept = [key.removeprefix("table ") for key in ours if key.startswith("table ")]
    rows = condition(connection) if kept else ""
    for table in plan.existing_tables(connection, kept):
        yield table, rows
