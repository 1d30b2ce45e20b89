"""Data: initial rows for existing users, sequences, and references that lead somewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout import plan
from rollout.checks.registry import Area, Subject, check
from rollout.database import identifier, in_text, quote
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.catalog import Definition

HAS_ROLE = (
    "EXISTS (SELECT FROM user_roles ur JOIN roles r ON r.id = ur.role_id"
    " WHERE ur.user_id = u.id AND r.name IN ({roles}){since})"
)
TYPE_BY_ROLES = "CASE WHEN {} THEN 'lawyer' WHEN {} THEN 'admin' ELSE 'user' END".format(
    HAS_ROLE.format(roles="'Lawyer'", since=""), HAS_ROLE.format(roles="'Admin'", since="")
)
"""The type that a user's roles make, as the upgrade gives it: who is both Lawyer and Admin is a lawyer."""


@dataclass(frozen=True)
class InitialRows:
    """Rows that the upgrade made for users who existed: ``roles`` (SQL literals) says for whom, '' for all."""

    table: str
    key: str
    roles: str
    columns: str
    values: str

    @property
    def missing(self) -> str:
        """The condition of a user ``u`` who lacks the row."""
        who = HAS_ROLE.format(roles=self.roles, since="") + " AND " if self.roles else ""
        return f"{who}NOT EXISTS (SELECT FROM {self.table} t WHERE t.{self.key} = u.id)"

    @property
    def repair(self) -> str:
        """The statement that makes what is missing."""
        return f"INSERT INTO {self.table} ({self.columns}) SELECT {self.values} FROM users u WHERE {self.missing};"


INITIAL_ROWS = (
    InitialRows(
        "workspace_mappings",
        "user_id",
        "",
        "user_id, workspace_id, workspace_type",
        f"id, workspace_id, {TYPE_BY_ROLES}",
    ),
    InitialRows("lawyer_level_details", "lawyer_id", "'Lawyer'", "lawyer_id", "id"),
    InitialRows("user_credits", "user_id", "'User', 'Institution'", "user_id", "id"),
)

# A user who signs up while the upgrade holds its locks waits, and comes after it with an earlier created_at: that the
# upgrade saw a row is certain where it is an hour older, or visible in the upgrade's own snapshot.
_CERTAIN = "({column} <= :moment - interval '1 hour' OR {column} <= :moment AND {seen})"
_SEEN = (
    "txid_visible_in_snapshot((:moment_id >> 32 << 32) + {row}.xmin::text::bigint, CAST(:snapshot AS txid_snapshot))"
)


def initial_rows(subject: Subject, rows: InitialRows) -> Iterator[Finding]:
    """Yield users without their row: an error for those whom the upgrade saw, else a warning."""
    source = f"FROM {subject.rows('users')} AS u WHERE {rows.missing}"
    missing = subject.connection.exec_driver_sql(f"SELECT count(*) {source}").scalar_one()
    early = missing if missing and subject.in_upgrade else 0
    upgrade = _upgrade(subject, rows.table) if missing and not subject.in_upgrade else None
    if upgrade is not None:
        condition = _CERTAIN.format(column="u.created_at", seen=_SEEN.format(row="u"))
        if rows.roles:
            since = " AND " + _CERTAIN.format(column="ur.assigned_at", seen=_SEEN.format(row="ur"))
            condition += " AND " + HAS_ROLE.format(roles=rows.roles, since=since)
        early = subject.connection.execute(text(f"SELECT count(*) {source} AND {condition}"), upgrade).scalar_one()
    if early:
        yield Finding(
            rows.table, say("{count} user(s) of before the upgrade have no row", count=early), rows.repair, ERROR
        )
    if missing > early:
        yield Finding(
            rows.table, say("{count} user(s) who came later have no row", count=missing - early), rows.repair, WARNING
        )


def _upgrade(subject: Subject, table: str) -> dict[str, Any] | None:
    """Return when the family of a table was last upgraded, and what that upgrade saw; None where nothing tells."""
    if not subject.remembers:
        return None
    families = {one.id: one.family for one in plan.history()}
    row = subject.connection.execute(
        text(
            "SELECT applied_at AS moment, transaction_id AS moment_id, snapshot::text AS snapshot"
            " FROM rollout.applied_revisions WHERE family = :family ORDER BY applied_at DESC LIMIT 1"
        ),
        {"family": families[subject.manifest.made_by[f"table {table}"]]},
    ).one_or_none()
    return dict(row._mapping) if row is not None else None  # noqa: SLF001 - SQLAlchemy's public name


@check(Area.DATA, needs=("table lawyer_level_details",))
def every_lawyer_has_a_level(subject: Subject) -> Iterator[Finding]:
    """Every user with the role Lawyer has a row of level details."""
    yield from initial_rows(subject, INITIAL_ROWS[1])


@check(Area.DATA, needs=("table user_credits",))
def every_client_has_credits(subject: Subject) -> Iterator[Finding]:
    """Every user with the role User or Institution has a row of credits."""
    yield from initial_rows(subject, INITIAL_ROWS[2])


_REFERENCES = re.compile(r"FOREIGN KEY \((?P<columns>[^)]+)\) REFERENCES (?P<table>[\w.\"]+)\((?P<referred>[^)]+)\)")


@check(Area.DATA)
def references_lead_somewhere(subject: Subject) -> Iterator[Finding]:
    """No foreign key of ours has an orphan, also where triggers were off."""
    for key, definition in subject.manifest.objects.items():
        match = _REFERENCES.match(str(definition.get("definition", "")))
        if match is None or not key.startswith("constraint ") or not subject.is_ours(key):
            continue
        name = key.partition(" ")[2]
        missing = [one for one in _ends(definition, match) if one not in subject.catalog]
        if missing:
            kind, _, what = missing[0].partition(" ")
            yield Finding(
                name,
                say("cannot be looked at: {kind} {name} is missing", kind=kind, name=what),
                say("tool verify --area structure"),
            )
            continue
        yield from _orphans(subject, name, definition["table"], match)


def _ends(definition: Definition, match: re.Match[str]) -> list[str]:
    """Return the columns at both ends of a foreign key."""
    return [f"column {definition['table']}.{match['columns']}", f"column {match['table']}.{match['referred']}"]


def _orphans(subject: Subject, name: str, table: str, match: re.Match[str]) -> Iterator[Finding]:
    """Yield rows of one foreign key that refer to nothing."""
    column, referred, key = match["columns"], match["table"], match["referred"]
    orphan = f"c.{column} IS NOT NULL AND NOT EXISTS (SELECT FROM {referred} p WHERE p.{key} = c.{column})"
    count = subject.connection.exec_driver_sql(
        f"SELECT count(*) FROM {subject.rows(table)} AS c WHERE {orphan}"
    ).scalar_one()
    if count:
        yield Finding(
            name,
            say("{count} row(s) refer to nothing", count=count),
            f"SELECT * FROM {table} AS c WHERE {orphan};",
        )


@check(Area.DATA)
def sequences_are_ahead(subject: Subject) -> Iterator[Finding]:
    """No sequence of ours is behind its column: the next number is free (where we may not see it, a warning)."""
    for key, definition in subject.manifest.objects.items():
        table, _, column = str(definition.get("owned_by", "")).rpartition(".")
        sequence = key.removeprefix("sequence ")
        if not key.startswith("sequence ") or not {key, f"column {table}.{column}"} <= subject.catalog.keys():
            continue
        may, highest = subject.connection.execute(
            text(
                "SELECT has_sequence_privilege(CAST(:sequence AS text), 'SELECT'),"
                f" (SELECT max({in_text(column)}) FROM {in_text(table)})"
            ),
            {"sequence": identifier("public", sequence)},
        ).one()
        if not may:
            yield Finding(
                sequence,
                say("its position cannot be read"),
                f"GRANT SELECT ON SEQUENCE {sequence} TO CURRENT_USER;",
                WARNING,
            )
            continue
        following = subject.connection.exec_driver_sql(
            f"SELECT last_value + CASE WHEN is_called THEN 1 ELSE 0 END FROM {quote(sequence)}"
        ).scalar_one()
        if highest is not None and following <= highest:
            yield Finding(
                sequence,
                say(
                    "the next number is {following}, but {column} holds {highest}",
                    following=following,
                    column=f"{table}.{column}",
                    highest=highest,
                ),
                f"SELECT setval('{sequence}', (SELECT max({column}) FROM {table}));",
            )
