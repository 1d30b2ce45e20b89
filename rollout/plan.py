"""The history of revisions, where a database stands in it, and what a step to another revision involves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from rollout.database import VERSION_TABLE
from rollout.errors import PreflightFailed
from rollout.messages import say
from rollout.settings import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

BASE = "base"
HEAD = "head"

# Weakest first: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
LOCK_MODES = (
    "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE", "ACCESS EXCLUSIVE",
)  # fmt: skip


@dataclass(frozen=True)
class Revision:
    """One revision file. ``locks``: the strongest lock it takes on tables that were there before any of ours."""

    id: str
    family: str
    summary: str
    locks: Mapping[str, str]
    atomic: bool
    reversible: bool
    path: Path

    @property
    def sha256(self) -> str:
        """The hash of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def alembic_config() -> Config:
    """Return Alembic's configuration: alembic.ini beside cli.py, wherever we are called from."""
    return Config(str(PROJECT / "alembic.ini"))


@cache
def scripts() -> ScriptDirectory:
    """Return Alembic's view of alembic/versions."""
    return ScriptDirectory.from_config(alembic_config())


@cache
def history() -> tuple[Revision, ...]:
    """Return all revisions, from the baseline to head."""
    found = []
    for script in scripts().walk_revisions(BASE, HEAD):
        module = script.module
        found.append(
            Revision(
                id=script.revision,
                family=module.family,
                summary=script.doc,
                locks=module.locks,
                atomic=module.atomic,
                reversible=module.reversible,
                path=Path(script.path),
            )
        )
    return tuple(reversed(found))


def families() -> dict[str, str]:
    """Return each family's last revision, in order: what a rollback to the family leaves."""
    return {revision.family: revision.id for revision in history()}


def family_of() -> dict[str, str]:
    """Return the family of each revision."""
    return {revision.id: revision.family for revision in history()}


def resolve(name: str) -> str | None:
    """Return the revision that a user means by a full or shortened id, a family, ``head`` or ``base`` (None).

    Raises ``PreflightFailed`` for anything else.
    """
    if name == BASE:
        return None
    if name in {HEAD, "heads"}:
        return history()[-1].id
    if name in families():
        return families()[name]
    matches = [revision.id for revision in history() if len(name) >= 4 and revision.id.startswith(name)]  # noqa: PLR2004
    if len(matches) != 1:
        raise PreflightFailed(
            say("there is no revision or family {name}", name=name),
            hint=say("Families: {families}; `alembic history` lists the revisions.", families=", ".join(families())),
        )
    return matches[0]


def up_to(revision: str | None) -> list[Revision]:
    """Return the revisions from the first to this one (none for None)."""
    if revision is None:
        return []
    ids = [one.id for one in history()]
    return list(history()[: ids.index(revision) + 1])


def not_in(revision: str | None) -> list[Revision]:
    """Return the revisions after this one (all for None)."""
    return list(history()[len(up_to(revision)) :])


def recorded(connection: Connection) -> list[str]:
    """Return what our version table names, whatever it is; nothing where there is no such table."""
    if connection.execute(text(f"SELECT to_regclass('public.{VERSION_TABLE}')")).scalar_one() is None:
        return []
    return list(connection.execute(text(f"SELECT version_num FROM public.{VERSION_TABLE} ORDER BY 1")).scalars())


def current(connection: Connection) -> str | None:
    """Return the revision that the database is at by our version table; None before the first upgrade.

    Raises ``PreflightFailed`` where the table does not say: several rows, or an id that this checkout does not know.
    """
    ids = recorded(connection)
    if not ids:
        _refuse_loss(connection)
        return None
    if len(ids) > 1:
        raise PreflightFailed(
            say("{table} names {count} revisions; it must name one", table=VERSION_TABLE, count=len(ids)),
            hint=say("Run `tool adopt` to see where the database really stands."),
        )
    if ids[0] not in {revision.id for revision in history()}:
        raise _unknown(connection, ids[0])
    return str(ids[0])


# An older tool's memory may lack the column.
_REMEMBERS = """
SELECT EXISTS (
    SELECT FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'rollout' AND c.relname = 'applied_revisions' AND a.attname = 'downgrade_sql'
      AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
"""

_APPLIED = """
SELECT revision, family, rtrim(summary, '.') AS summary, applied_at::date AS day, tool_version,
       revision = ANY(:known) AS known
FROM rollout.applied_revisions WHERE number IS NOT NULL ORDER BY number
"""


def _unknown(connection: Connection, revision: str) -> PreflightFailed:
    """Explain a revision that this checkout does not know, by what the database remembers of it (``way_back``)."""
    applied = []
    if connection.execute(text(_REMEMBERS)).scalar_one():
        applied = list(connection.execute(text(_APPLIED), {"known": [one.id for one in history()]}))
    known, newer = [row for row in applied if row.known], [row for row in applied if not row.known]
    if applied and revision not in {row.revision for row in applied}:
        return PreflightFailed(
            say(
                "{table} names revision {revision}, which was never applied here",
                table=VERSION_TABLE,
                revision=revision,
            ),
            hint=say("Run `tool adopt` to see where the database really stands."),
        )
    if not (known and newer and newer[-1].revision == revision):
        return PreflightFailed(
            say("the database is at revision {revision}, which this checkout does not know", revision=revision),
            hint=say("Use the checkout that upgraded it (git log -S{revision}); this one is older.", revision=revision),
        )
    last = newer[-1]
    return PreflightFailed(
        say(
            "the database is at revision {revision} ({family}: {summary}), which this checkout does not know:"
            " it is {count} revision(s) behind what lawsker-schema {version} made on {day}",
            revision=revision,
            family=last.family,
            summary=last.summary,
            count=len(newer),
            version=last.tool_version,
            day=last.day,
        ),
        hint=say(
            "Use that version; back to what this checkout knows leads `tool rollback --to {known}` there, or the"
            " scripts in rollout.applied_revisions (runbook: an older checkout).",
            known=known[-1].revision,
        ),
    )


def _refuse_loss(connection: Connection) -> None:
    """Raise where the version table has lost its row, though we remember revisions as applied (if we may read that)."""
    readable = (
        "SELECT CASE WHEN has_schema_privilege(oid, 'USAGE') THEN to_regclass('rollout.applied_revisions') END"
        " FROM pg_namespace WHERE nspname = 'rollout'"
    )
    table = connection.execute(text(readable)).scalar()
    if table is None or not connection.execute(text("SELECT has_table_privilege(:t, 'SELECT')"), {"t": table}).scalar():
        return
    count = connection.execute(text("SELECT count(*) FROM rollout.applied_revisions")).scalar_one()
    if count:
        raise PreflightFailed(
            say("{table} names no revision, but {count} are remembered as applied", table=VERSION_TABLE, count=count),
            hint=say("Run `tool adopt` to see where the database really stands."),
        )


@dataclass(frozen=True)
class Plan:
    """The way from ``start`` to ``target`` (None: before the first revision); ``revisions`` in the order they run."""

    start: str | None
    target: str | None
    revisions: tuple[Revision, ...]
    downwards: bool = False

    def locks(self) -> dict[str, str]:
        """Return the strongest lock for each legacy table; a downgrade takes ACCESS EXCLUSIVE where it drops."""
        strongest: dict[str, str] = {}
        for revision in self.revisions:
            for table, mode in revision.locks.items():
                strongest[table] = max(strongest.get(table, mode), mode, key=LOCK_MODES.index)
        if self.downwards:
            strongest = dict.fromkeys(strongest, "ACCESS EXCLUSIVE")
        return dict(sorted(strongest.items()))


def make(start: str | None, target: str | None) -> Plan:
    """Plan the way from one revision to another, up or down."""
    have, want = up_to(start), up_to(target)
    if len(want) >= len(have):
        return Plan(start, target, tuple(want[len(have) :]))
    return Plan(start, target, tuple(reversed(have[len(want) :])), downwards=True)


def existing_tables(connection: Connection, names: Iterable[str]) -> list[str]:
    """Return those of these tables of schema public that are there."""
    return list(
        connection.execute(
            text(
                "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname = ANY(:names) ORDER BY 1"
            ),
            {"names": list(names)},
        ).scalars()
    )
