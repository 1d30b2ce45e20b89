"""Data: initial rows for existing users, sequences, and references that lead somewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout import plan
from rollout.checks.legacy import KEYS
from rollout.checks.registry import Area, Subject, check
from rollout.database import identifier, in_text, quote
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    if rows.roles and not subject.is_sampled("users") and not _some_are_missing(subject, rows):
        return
    source = f"FROM {subject.rows('users')} AS u WHERE {rows.missing}"
    missing = subject.connection.exec_driver_sql(f"SELECT count(*) {source}").scalar_one()
    early = missing if missing and subject.in_upgrade else 0
    upgrade = upgrade_of(subject, rows.table) if missing and not subject.in_upgrade else None
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


def _some_are_missing(subject: Subject, rows: InitialRows) -> bool:
    """Tell whether somebody of these roles has no row: half the work of asking for each user."""
    count = subject.connection.exec_driver_sql(
        f"SELECT count(*) FROM user_roles ur JOIN roles r ON r.id = ur.role_id AND r.name IN ({rows.roles})"
        f" WHERE NOT EXISTS (SELECT FROM {rows.table} t WHERE t.{rows.key} = ur.user_id)"
    ).scalar_one()
    return bool(count)


def upgrade_of(subject: Subject, table: str) -> dict[str, Any] | None:
    """Return when the family of a table was last upgraded, and what that upgrade saw; None where nothing tells."""
    if not subject.remembers:
        return None
    row = subject.connection.execute(
        text(
            "SELECT applied_at AS moment, transaction_id AS moment_id, snapshot::text AS snapshot"
            " FROM rollout.applied_revisions WHERE family = :family ORDER BY applied_at DESC LIMIT 1"
        ),
        {"family": plan.family_of()[subject.manifest.made_by[f"table {table}"]]},
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


@dataclass(frozen=True)
class Reference:
    """One foreign key of one column: ``name`` and ``severity`` of the finding, and what refers to what."""

    name: str
    table: str
    column: str
    referred: str
    key: str
    severity: str = ERROR

    @property
    def orphans(self) -> str:
        """The statement that shows rows which refer to nothing."""
        return (
            f"SELECT * FROM {self.table} AS c WHERE c.{self.column} IS NOT NULL"
            f" AND NOT EXISTS (SELECT FROM {self.referred} p WHERE p.{self.key} = c.{self.column});"
        )


@check(Area.DATA)
def references_lead_somewhere(subject: Subject) -> Iterator[Finding]:
    """No foreign key of ours has an orphan, also where triggers were off (of the legacy core's: a warning)."""
    together: dict[tuple[bool, str, str], list[Reference]] = {}
    for key, definition in subject.manifest.objects.items():
        match = _REFERENCES.match(str(definition.get("definition", "")))
        if match is None or not key.startswith("constraint ") or not subject.is_ours(key):
            continue
        one = Reference(key.partition(" ")[2], definition["table"], *match.group("columns", "table", "referred"))
        ends = (f"column {one.table}.{one.column}", f"column {one.referred}.{one.key}")
        missing = [end for end in ends if end not in subject.catalog]
        if missing:
            kind, _, what = missing[0].partition(" ")
            yield Finding(
                one.name,
                say("cannot be looked at: {kind} {name} is missing", kind=kind, name=what),
                say("tool verify --area structure"),
            )
            continue
        together.setdefault((subject.is_sampled(one.table), one.referred, one.key), []).append(one)
    legacy = () if subject.revision is None or subject.is_ours("table users") else KEYS
    for table, column, referred, key in legacy:
        if table == "profiles":
            continue  # nobody sees an orphan among them, and it would take as long as all the others
        one = Reference(f"{table}.{column}", table, column, referred, key, WARNING)
        if {f"column {table}.{column}", f"column {referred}.{key}"} <= subject.catalog.keys():
            together.setdefault((subject.is_sampled(table), referred, key), []).append(one)
    # Tables that are sampled come last: they change how the rest of the check is planned.
    for _, references in sorted(together.items(), key=lambda item: item[0]):
        yield from _orphans(subject, references)


def _orphans(subject: Subject, references: list[Reference]) -> Iterator[Finding]:
    """Yield rows that refer to nothing, of foreign keys to one column: what they refer to is read once for all."""
    values = " UNION ALL ".join(
        f"SELECT {number} AS reference, c.{one.column} AS value FROM {subject.rows(one.table)} AS c"
        for number, one in enumerate(references)
    )
    referred, key = references[0].referred, references[0].key
    counts = subject.connection.exec_driver_sql(
        f"SELECT reference, count(*) FROM ({values}) AS r WHERE value IS NOT NULL"
        f" AND NOT EXISTS (SELECT FROM {referred} p WHERE p.{key} = r.value) GROUP BY 1 ORDER BY 1"
    )
    for number, count in counts.all():
        one = references[number]
        yield Finding(one.name, say("{count} row(s) refer to nothing", count=count), one.orphans, one.severity)


@check(Area.DATA)
def sequences_are_ahead(subject: Subject) -> Iterator[Finding]:
    """No sequence of ours is behind its column or at its end (where we may not see it, a warning)."""
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
            f"SELECT last_value::numeric + CASE WHEN is_called THEN 1 ELSE 0 END FROM {quote(sequence)}"
        ).scalar_one()
        problem = ""
        if following > definition["max"]:
            problem = say("it is at its end: there is no next number")
        elif highest is not None and following <= highest:
            problem = say(
                "the next number is {following}, but {column} holds {highest}",
                following=following,
                column=f"{table}.{column}",
                highest=highest,
            )
        if problem:
            yield Finding(sequence, problem, f"SELECT setval('{sequence}', (SELECT max({column}) FROM {table}));")
