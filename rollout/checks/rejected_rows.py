"""Preflight on half-migrated databases: rows that a constraint of a pending revision would reject, with their keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import adopt, catalog, manifest, plan
from rollout.checks.registry import Area, Subject, check
from rollout.database import identifier, server_major
from rollout.findings import Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.catalog import Catalog, Definition

_FOREIGN = re.compile(r"FOREIGN KEY \(.*?\) REFERENCES (?:public\.)?(\w+)\((.*?)\)")
_UNIQUE = re.compile(r"CREATE UNIQUE INDEX ON \S+ USING btree \(([\w, ]+)\)(?: WHERE (.*))?$")
_SURROGATES = {"uuid", "smallint", "integer", "bigint"}
"""Types of keys that say nothing about anybody: other keys may be e-mail addresses, which no report shows."""


@check(Area.PREFLIGHT)
def rows_fit_new_constraints(subject: Subject) -> Iterator[Finding]:
    """No row that is there would be rejected by a constraint that a pending revision adds."""
    assert subject.steps is not None  # noqa: S101
    there = subject.catalog
    wanted = manifest.at(
        [revision.id for revision in plan.up_to(subject.steps.target)], major=server_major(subject.connection)
    )
    later = [one.id for one in subject.steps.revisions if one.family != adopt.BASELINE_FAMILY]
    # The check's savepoint takes this back; nobody's upgrade hangs on one big table.
    subject.connection.execute(text("SET LOCAL statement_timeout = '60s'"))
    for key, definition in wanted.of_revisions(later):
        actual = adopt.find(key, definition, there)
        if actual is not None and catalog.definition_of(actual) == catalog.definition_of(definition):
            continue
        place = _rejected(key, definition, wanted.objects, there)
        if place is not None:
            yield from _finding(subject, key, *place)


def _rejected(key: str, definition: Definition, wanted: Catalog, there: Catalog) -> tuple[str, str] | None:
    """Return (table, condition of the rows that the object would reject); None where it cannot reject any."""
    kind, _, name = key.partition(" ")
    if kind == "column":
        table, _, column = name.rpartition(".")
        lax = key in there and definition["not_null"] and not there[key]["not_null"]
        return (table, f"{identifier(column)} IS NULL") if lax else None
    table = str(definition.get("table"))
    unique = _UNIQUE.match(str(definition.get("definition"))) if kind == "index" else None
    if unique is not None:
        columns = unique[1].split(", ")
    elif kind == "constraint":
        columns = list(definition.get("columns", ()))
    else:
        return None
    if not columns or not all(_same_type(f"column {table}.{column}", wanted, there) for column in columns):
        return None
    if unique is not None or definition["type"] in {"p", "u"}:
        return table, _duplicates(table, columns, unique[2] if unique is not None else None)
    if definition["type"] == "c":
        return table, f"NOT {str(definition['definition']).removeprefix('CHECK ')}"
    return _orphans(table, columns, str(definition["definition"]), there)


def _same_type(key: str, wanted: Catalog, there: Catalog) -> bool:
    """Tell whether a column is there with our type; of another type, its own difference is what is told."""
    return key in there and key in wanted and there[key]["type"] == wanted[key]["type"]


def _duplicates(table: str, columns: list[str], where: str | None) -> str:
    """Return the condition of the rows that have the same values as another one; NULLs differ from each other."""
    names = ", ".join(identifier(column) for column in columns)
    condition = f" WHERE {where}" if where else ""
    same = f"({names}) IN (SELECT {names} FROM {identifier(table)}{condition} GROUP BY {names} HAVING count(*) > 1)"
    return f"{same} AND {where}" if where else same


def _orphans(table: str, columns: list[str], definition: str, there: Catalog) -> tuple[str, str] | None:
    """Return the condition of the rows that refer to nothing; None where the other table is not there yet."""
    found = _FOREIGN.match(definition)
    if found is None or f"table {found[1]}" not in there:
        return None
    pairs = zip(columns, found[2].split(", "), strict=True)
    given = " AND ".join(f"{identifier(column)} IS NOT NULL" for column in columns)
    same = " AND ".join(f"r.{identifier(other)} = {identifier(table)}.{identifier(column)}" for column, other in pairs)
    return table, f"{given} AND NOT EXISTS (SELECT FROM {identifier(found[1])} r WHERE {same})"


def _key_of(table: str, there: Catalog) -> str:
    """Return an expression of a row's key: its primary key if that says nothing about anybody, else its place."""
    for name, one in there.items():
        if name.startswith("constraint ") and one.get("table") == table and one.get("type") == "p":
            columns = list(one["columns"])
            if all(there[f"column {table}.{column}"]["type"] in _SURROGATES for column in columns):
                return "concat_ws('/', " + ", ".join(identifier(column) for column in columns) + ")"
    return "ctid::text"


def _finding(subject: Subject, key: str, table: str, condition: str) -> Iterator[Finding]:
    """Count the rows and name the first five, with the query that lists them all."""
    rows = f"SELECT {_key_of(table, subject.catalog)} AS key FROM {identifier(table)} WHERE {condition}"
    count, keys = subject.connection.exec_driver_sql(
        f"WITH bad AS MATERIALIZED ({rows})"
        " SELECT (SELECT count(*) FROM bad), ARRAY(SELECT key FROM bad ORDER BY 1 LIMIT 5)".replace("%", "%%")
    ).one()
    if count:
        yield Finding(
            key.partition(" ")[2],
            say(
                "{count} row(s) of {table} would be rejected, keys: {keys}",
                count=count,
                table=table,
                keys=", ".join(keys) + (", …" if count > len(keys) else ""),
            ),
            say("List them all, and correct them: {query}", query=f"{rows};"),
        )
