"""Data: seed rows, initial rows for existing users, and references that lead somewhere."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout.checks.registry import Area, Subject, check
from rollout.database import quote
from rollout.findings import ERROR, WARNING, Finding
from rollout.manifest import EXPECTED
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

_HAS_ROLE = (
    "EXISTS (SELECT FROM user_roles ur JOIN roles r ON r.id = ur.role_id"
    " WHERE ur.user_id = u.id AND r.name IN ({roles}){since})"
)


@dataclass(frozen=True)
class InitialRows:
    """Rows that the upgrade made for users who existed: ``roles`` (SQL literals) says for whom, '' for all."""

    table: str
    key: str
    roles: str
    repair: str

    def missing(self, *, before: bool) -> str:
        """Return the query that counts users without their row: all of them, or those of before ``:upgraded_at``."""
        since = " AND ur.assigned_at <= :upgraded_at" if before else ""
        who = _HAS_ROLE.format(roles=self.roles, since=since) if self.roles else "true"
        when = " AND u.created_at <= :upgraded_at" if before else ""
        return (
            f"SELECT count(*) FROM users u WHERE {who}{when}"
            f" AND NOT EXISTS (SELECT FROM {self.table} t WHERE t.{self.key} = u.id)"
        )


INITIAL_ROWS = (
    InitialRows(
        "workspace_mappings", "user_id", "",
        "INSERT INTO workspace_mappings (user_id, workspace_id, workspace_type) SELECT id, workspace_id, 'user'"
        " FROM users u WHERE NOT EXISTS (SELECT FROM workspace_mappings m WHERE m.user_id = u.id);",
    ),
    InitialRows(
        "lawyer_level_details", "lawyer_id", "'Lawyer'",
        "INSERT INTO lawyer_level_details (lawyer_id) SELECT DISTINCT ur.user_id FROM user_roles ur JOIN roles r"
        " ON r.id = ur.role_id WHERE r.name = 'Lawyer' ON CONFLICT DO NOTHING;",
    ),
    InitialRows(
        "user_credits", "user_id", "'User', 'Institution'",
        "INSERT INTO user_credits (user_id) SELECT DISTINCT ur.user_id FROM user_roles ur JOIN roles r"
        " ON r.id = ur.role_id WHERE r.name IN ('User', 'Institution') ON CONFLICT DO NOTHING;",
    ),
)  # fmt: skip


def upgraded_at(subject: Subject) -> datetime | None:
    """Return when the last revision was applied, as far as our memory tells us."""
    readable = subject.connection.execute(
        text(
            "SELECT CASE WHEN to_regclass('rollout.applied_revisions') IS NOT NULL"
            " THEN has_table_privilege('rollout.applied_revisions', 'SELECT') ELSE false END"
        )
    ).scalar_one()
    if not readable:
        return None
    moment: datetime | None = subject.connection.execute(
        text("SELECT min(applied_at) FROM rollout.applied_revisions")
    ).scalar_one()
    return moment


def _initial_rows(subject: Subject, rows: InitialRows) -> Iterator[Finding]:
    """Yield users without their row: an error for those who were there at the upgrade, else a warning."""
    missing = subject.connection.execute(text(rows.missing(before=False))).scalar_one()
    if not missing:
        return
    moment = upgraded_at(subject)
    early = 0
    if subject.in_upgrade:
        early = missing
    elif moment is not None:
        early = subject.connection.execute(text(rows.missing(before=True)), {"upgraded_at": moment}).scalar_one()
    if early:
        yield Finding(
            rows.table, say("{count} user(s) of before the upgrade have no row", count=early), rows.repair, ERROR
        )
    if missing > early:
        yield Finding(
            rows.table, say("{count} user(s) who came later have no row", count=missing - early), rows.repair, WARNING
        )


@check(Area.DATA, needs=("table workspace_mappings",))
def every_user_has_a_workspace(subject: Subject) -> Iterator[Finding]:
    """Every user has a workspace mapping."""
    yield from _initial_rows(subject, INITIAL_ROWS[0])


@check(Area.DATA, needs=("table lawyer_level_details",))
def every_lawyer_has_a_level(subject: Subject) -> Iterator[Finding]:
    """Every user with the role Lawyer has a row of level details."""
    yield from _initial_rows(subject, INITIAL_ROWS[1])


@check(Area.DATA, needs=("table user_credits",))
def every_client_has_credits(subject: Subject) -> Iterator[Finding]:
    """Every user with the role User or Institution has a row of credits."""
    yield from _initial_rows(subject, INITIAL_ROWS[2])


@check(Area.DATA, needs=("column users.workspace_id", "table workspace_mappings"))
def workspaces_agree(subject: Subject) -> Iterator[Finding]:
    """A user's workspace id is the one of the mapping."""
    count = subject.connection.execute(
        text(
            "SELECT count(*) FROM users u JOIN workspace_mappings m ON m.user_id = u.id"
            " WHERE m.workspace_id IS DISTINCT FROM u.workspace_id"
        )
    ).scalar_one()
    if count:
        yield Finding(
            "workspace_mappings.workspace_id",
            say("{count} mapping(s) name another workspace than their user", count=count),
            "UPDATE workspace_mappings m SET workspace_id = u.workspace_id FROM users u WHERE u.id = m.user_id"
            " AND m.workspace_id <> u.workspace_id;",
        )


@check(Area.DATA, needs=("column users.workspace_id",))
def workspace_ids_are_well_formed(subject: Subject) -> Iterator[Finding]:
    """A workspace id is ws- and 32 hex digits (ids that were there before us may look otherwise: a warning)."""
    count = subject.connection.execute(
        text("SELECT count(*) FROM users WHERE workspace_id !~ '^ws-[0-9a-f]{32}$'")
    ).scalar_one()
    if count:
        yield Finding(
            "users.workspace_id",
            say("{count} workspace id(s) have another form than ws-<32 hex digits>", count=count),
            "SELECT id, workspace_id FROM users WHERE workspace_id !~ '^ws-[0-9a-f]{32}$';",
            WARNING,
        )


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
            yield Finding(
                f"{table}.{row[key]}",
                say("the seed row is missing"),
                say("`tool plan --sql --from base` shows the INSERT."),
            )
            continue
        for column, value in row.items():
            if actual.get(column) != value:
                yield Finding(
                    f"{table}.{row[key]}",
                    say(
                        "{column}: expected {expected}, found {found}",
                        column=column,
                        expected=value,
                        found=actual.get(column),
                    ),
                    say("Keep it if it was edited on purpose; else set it back."),
                    WARNING,
                )


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


_REFERENCES = re.compile(r"FOREIGN KEY \((?P<columns>[^)]+)\) REFERENCES (?P<table>[\w.\"]+)\((?P<referred>[^)]+)\)")


@check(Area.DATA)
def references_lead_somewhere(subject: Subject) -> Iterator[Finding]:
    """No foreign key of ours has an orphan, also where triggers were off."""
    for key, definition in subject.manifest.objects.items():
        match = _REFERENCES.match(str(definition.get("definition", "")))
        if not key.startswith("constraint ") or match is None or subject.manifest.made_by[key] == subject.baseline:
            continue
        table, name = definition["table"], key.partition(" ")[2]
        if f"table {table}" not in subject.catalog or f"table {match['table']}" not in subject.catalog:
            continue  # that a table is missing is a finding of its own
        count = subject.connection.exec_driver_sql(
            f"SELECT count(*) FROM {quote(table)} c WHERE c.{match['columns']} IS NOT NULL AND NOT EXISTS"
            f" (SELECT FROM {match['table']} p WHERE p.{match['referred']} = c.{match['columns']})"
        ).scalar_one()
        if count:
            yield Finding(
                name,
                say("{count} row(s) refer to nothing", count=count),
                f"SELECT c.* FROM {table} c LEFT JOIN {match['table']} p"
                f" ON p.{match['referred']} = c.{match['columns']}"
                f" WHERE p.{match['referred']} IS NULL AND c.{match['columns']} IS NOT NULL;",
            )
