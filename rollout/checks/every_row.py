"""What only ``--deep`` asks: every row against every constraint, without believing the catalogs or the indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from rollout import adopt
from rollout.checks.registry import Area, Subject, check
from rollout.database import first_line, quote
from rollout.findings import Finding
from rollout.fingerprint import TEXT, pin_settings, row_hash, table_fingerprint
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator


def _conditions(subject: Subject) -> dict[str, dict[str, str]]:
    """Return, for each table, what each constraint forbids: table → {subject of the finding: SQL condition}."""
    conditions: dict[str, dict[str, str]] = {}
    for key, definition in subject.manifest.objects.items():
        kind, _, name = key.partition(" ")
        table, _, part = name.rpartition(".")
        if f"table {table}" not in subject.catalog or not subject.is_ours(key):
            continue
        forbidden = ""
        if kind == "column" and definition.get("not_null"):
            forbidden = f"{quote(part)} IS NULL"
        elif definition.get("type") == "c":
            forbidden = f"NOT {definition['definition'].removeprefix('CHECK ')}"
        columns = definition.get("columns", [part])
        if forbidden and all(f"column {table}.{column}" in subject.catalog for column in columns):
            conditions.setdefault(table, {})[name] = forbidden
    return conditions


@check(Area.DATA, deep=True)
def rows_keep_their_constraints(subject: Subject) -> Iterator[Finding]:
    """With --deep: every row keeps every NOT NULL and CHECK, those that were not validated too."""
    for table, conditions in _conditions(subject).items():
        counts = ", ".join(f"count(*) FILTER (WHERE {forbidden})" for forbidden in conditions.values())
        row = subject.connection.exec_driver_sql(f"SELECT {counts} FROM {quote(table)}").one()
        for (name, forbidden), count in zip(conditions.items(), row, strict=True):
            if count:
                yield Finding(
                    name,
                    say("{count} row(s) break it", count=count),
                    f"SELECT * FROM {table} WHERE {forbidden};",
                )


@check(Area.DATA, deep=True)
def texts_are_unique(subject: Subject) -> Iterator[Finding]:
    """With --deep: unique texts are, read without their indexes, which a new collation version may have broken."""
    # https://www.postgresql.org/docs/current/sql-altercollation.html#SQL-ALTERCOLLATION-NOTES
    # Workers may hand over as many rows as they like: they sort them, which takes longer than that.
    subject.connection.exec_driver_sql(
        "SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off;"
        "SET LOCAL parallel_tuple_cost = 0"
    )
    for key, definition in subject.manifest.objects.items():
        if definition.get("type") not in {"p", "u"} or not subject.is_ours(key):
            continue
        table, columns = definition["table"], definition["columns"]
        there = [subject.catalog.get(f"column {table}.{column}") for column in columns]
        if None in there or not any(str(one["type"]).startswith(("character", "text")) for one in there if one):
            continue
        names = ", ".join(map(quote, columns))
        known = " AND ".join(f"{quote(column)} IS NOT NULL" for column in columns)
        rows = f"FROM {quote(table)} WHERE {known}"
        query = f"SELECT {names} {rows} GROUP BY {names} HAVING count(*) > 1"
        # Hashes, which are sorted in a third of the time: only where two are alike are the values themselves looked at.
        hashed = row_hash([(quote(column), TEXT) for column in columns])
        alike = f"SELECT count(*) <> count(DISTINCT h) FROM (SELECT {hashed} AS h {rows} ORDER BY 1) AS sorted"
        if not subject.connection.exec_driver_sql(alike).scalar_one():
            continue
        count = subject.connection.exec_driver_sql(f"SELECT count(*) FROM ({query}) AS several").scalar_one()
        if count:
            yield Finding(
                key.removeprefix("constraint "),
                say("{count} value(s) are there more than once", count=count),
                f"{query};",
            )


@check(Area.DATA, deep=True)
def content_can_be_read(subject: Subject) -> Iterator[Finding]:
    """With --deep: every byte of our tables can be read; the result shows a fingerprint of each."""
    pin_settings(subject.connection)
    content: list[dict[str, Any]] = []
    subject.shared["content"] = content
    for table in (*adopt.WRITTEN, *adopt.our_tables(subject.revision)):
        prefix = f"column {table}."
        columns = sorted(key.removeprefix(prefix).strip('"') for key in subject.catalog if key.startswith(prefix))
        if f"table {table}" not in subject.catalog:
            continue
        try:
            with subject.connection.begin_nested():
                found = table_fingerprint(subject.connection, "public", table, columns)
        except DBAPIError as error:
            yield Finding(
                table,
                say("cannot be read: {reason}", reason=first_line(error)),
                say("Where its pages are damaged: `tool backup list`, then `tool restore PATH`."),
            )
        else:
            content.append({"table": table, "rows": found.rows, "fingerprint": found.digest})
