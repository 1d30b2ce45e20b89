"""Seeds: the fixed reference rows that the platform counts on."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from rollout.checks.registry import Area, Subject, check
from rollout.database import quote
from rollout.findings import WARNING, Finding
from rollout.manifest import EXPECTED
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def seeds() -> dict[str, dict[str, Any]]:
    """Return the expected seed rows: table → {key: column, rows: [{column: value}]}."""
    values: dict[str, dict[str, Any]] = json.loads((EXPECTED / "seeds.json").read_text(encoding="utf-8"))
    return values


def _seed(subject: Subject, table: str) -> Iterator[Finding]:
    """Yield seed rows that are missing (error) or edited (warning with field, expected, found)."""
    expected = seeds()[table]
    key = expected["key"]
    found = {
        row[0][key]: row[0] for row in subject.connection.exec_driver_sql(f"SELECT to_jsonb(t) FROM {quote(table)} t")
    }
    for row in expected["rows"]:
        actual = found.get(row[key])
        if actual is None:
            yield Finding(table, say("the seed row {key} is missing", key=f"{key} = {row[key]}"), _insert(table, row))
            continue
        for column, value in row.items():
            if actual.get(column) != value:
                yield Finding(
                    f"{table}.{column}",
                    say(
                        "{key}: expected {expected}, found {found}",
                        key=f"{key} = {row[key]}",
                        expected=json.dumps(value, ensure_ascii=False),
                        found=json.dumps(actual.get(column), ensure_ascii=False),
                    ),
                    say("Keep it if it was edited on purpose; else set it back."),
                    WARNING,
                )


def _insert(table: str, row: dict[str, Any]) -> str:
    """Return the statement that makes a seed row again."""
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(map(_literal, row.values()))});"


def _literal(value: Any) -> str:
    """Return a JSON value as an SQL literal."""
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"


@check(Area.DATA, needs=("table lawyer_levels", "table lawyer_level_details"))
def lawyer_levels_are_seeded(subject: Subject) -> Iterator[Finding]:
    """The ten lawyer levels are there; edited ones are a warning."""
    yield from _seed(subject, "lawyer_levels")


@check(Area.DATA, needs=("table enterprise_service_packages",))
def enterprise_packages_are_seeded(subject: Subject) -> Iterator[Finding]:
    """The four enterprise packages are there; edited ones are a warning."""
    yield from _seed(subject, "enterprise_service_packages")


@check(Area.DATA, needs=("table demo_accounts",))
def demo_accounts_are_seeded(subject: Subject) -> Iterator[Finding]:
    """The two demo accounts are there; edited ones are a warning."""
    yield from _seed(subject, "demo_accounts")
