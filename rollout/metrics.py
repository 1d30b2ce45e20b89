"""Figures about a running database that cost little to know: no table is read through, nothing waits long.

What cannot be known (rights, a lock, a timeout) is None, and ``unknown`` says why.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from rollout import memory
from rollout.backups.store import list_backups
from rollout.checks.data import INITIAL_ROWS
from rollout.database import LOCK_KEY, first_line, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from rollout.checks.data import InitialRows
    from rollout.database import Target
    from rollout.settings import Settings

HELP = {
    "database_bytes": "Size of the database in bytes",
    "connections": "Client sessions in this database",
    "max_connections": "Client sessions that the server allows in all",
    "hidden_sessions": "Sessions of which this user may see nothing (grant pg_read_all_stats)",
    "longest_transaction_seconds": "Age of the oldest open transaction in this database that this user may see",
    "transaction_id_age": "Transactions since the oldest unfrozen row; the server stops at 2 billion",
    "run_in_progress": "1 while a run of this tool holds its lock",
    "lock_waits": "Sessions that have been waiting for a lock for a second or more",
    "users": "Users (exact while the table is small, else an estimate)",
    "users_without_workspace": "Users without a workspace mapping (from a sample while the table is large)",
    "lawyers_without_level": "Lawyers without level details (from a sample while the table is large)",
    "clients_without_credits": "Users and institutions without credits (from a sample while the table is large)",
    "last_backup_age_seconds": "Age of the newest backup of this database",
    "last_backup_proven": "1 when the newest backup has been proven by a restore",
    "last_run_age_seconds": "Time since the last recorded run began",
    "last_run_ok": "1 when the last recorded run ended well",
}
"""Every figure that is a number, for monitoring systems."""

SAMPLED_PAGES = 300
"""The most pages of ``users`` that one look reads; a table of up to that size is counted exactly."""

_SERVER = """
SELECT pg_database_size(current_database()) AS database_bytes,
       count(*) FILTER (WHERE coalesce(backend_type, 'client backend') = 'client backend') AS connections,
       current_setting('max_connections')::int AS max_connections,
       count(*) FILTER (WHERE backend_type IS NULL) AS hidden_sessions,
       round(extract(epoch FROM coalesce(
           max(clock_timestamp() - xact_start) FILTER (WHERE pid <> pg_backend_pid()), '0'))::numeric, 1)::float
           AS longest_transaction_seconds,
       (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()) AS transaction_id_age,
       EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
               WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = current_database()
               AND l.classid::bigint = :high AND l.objid::bigint = :low) AS run_in_progress
FROM pg_stat_activity WHERE datname = current_database()
"""

_USERS = """
SELECT c.reltuples, c.relpages, pg_relation_size(c.oid) / current_setting('block_size')::int AS pages,
       pg_stat_get_live_tuples(c.oid) AS live
FROM pg_class c WHERE c.oid = to_regclass('public.users') AND c.relkind = 'r'
"""

_WITHOUT = {
    "workspace_mappings": "users_without_workspace",
    "lawyer_level_details": "lawyers_without_level",
    "user_credits": "clients_without_credits",
}


def read(connection: Connection, settings: Settings, target: Target) -> dict[str, Any]:
    """Return the figures of ``HELP`` but for ``lock_waits``; also ``estimated``, ``last_run`` and ``unknown``.

    Inside a transaction whose timeouts the caller has set.
    """
    figures: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    sources: Mapping[str, Callable[[], Mapping[str, Any]]] = {
        "database_bytes": lambda: _server(connection),
        "users": lambda: _users(connection),
        "last_backup_age_seconds": lambda: _last_backup(settings, target),
        "last_run": lambda: _last_run(connection),
    }
    for name, source in sources.items():
        reason = _try(connection, source, figures)
        if reason is not None:
            figures[name] = None
            unknown[name] = reason
    return {**figures, "unknown": unknown}


def _try(connection: Connection, source: Callable[[], Mapping[str, Any]], figures: dict[str, Any]) -> str | None:
    """Add the figures of one source, in a savepoint; return why there are none. A lost connection is raised."""
    try:
        with connection.begin_nested():
            figures.update(source())
    except (DBAPIError, OSError) as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        return first_line(error)
    return None


def _server(connection: Connection) -> Mapping[str, Any]:
    """Return what the server's own views tell."""
    key = {"high": LOCK_KEY >> 32, "low": LOCK_KEY & 0xFFFFFFFF}
    return connection.execute(text(_SERVER), key).one()._asdict()


def _users(connection: Connection) -> dict[str, Any]:
    """Return how many users there are, and how many lack a row that the upgrade gives to its users.

    A large table is sampled by pages: a million users cost what ten thousand do.
    https://www.postgresql.org/docs/current/sql-select.html (TABLESAMPLE)
    """
    table = connection.execute(text(_USERS)).one_or_none()
    if table is None:
        return {}
    there = [rows for rows in INITIAL_ROWS if _exists(connection, rows.table)]
    exact = table.pages <= SAMPLED_PAGES
    sample = "" if exact else f" TABLESAMPLE SYSTEM ({100 * SAMPLED_PAGES / table.pages})"
    query = (
        f"SELECT count(*) AS users{''.join(_counted(rows) for rows in there)}"
        f" FROM public.users u{sample}{''.join(_joined(rows) for rows in there)}"
    )
    counts = connection.execute(text(query)).one()._asdict()
    if exact:
        return {**counts, "estimated": []}
    # A change that was rolled back leaves pages without users; the server's own count is gone after a crash, and has
    # rows twice that came just before an ANALYZE. What is nearer to the sample counts.
    sampled = counts["users"] * table.pages / SAMPLED_PAGES
    density = table.reltuples / table.relpages if table.relpages else 0
    users = min((table.live, density * table.pages), key=lambda known: abs(known - sampled)) or sampled
    factor = users / max(counts["users"], 1)
    estimates = {name: round(count * factor) for name, count in counts.items()}
    return {**estimates, "users": round(users), "estimated": list(counts)}


def _exists(connection: Connection, table: str) -> bool:
    """Tell whether a table of schema public is there."""
    return bool(connection.execute(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": f"public.{table}"}).scalar())


def _counted(rows: InitialRows) -> str:
    """Return the column that counts users without their row."""
    wanted = f"role_{rows.table}.yes AND " if rows.roles else ""
    return f", count(*) FILTER (WHERE {wanted}row_{rows.table}.yes IS NULL) AS {_WITHOUT[rows.table]}"


def _joined(rows: InitialRows) -> str:
    """Return the joins that look for a user's row; LIMIT keeps the planner from reading the other table whole."""
    row = f"SELECT true AS yes FROM public.{quote(rows.table)} t WHERE t.{quote(rows.key)} = u.id LIMIT 1"
    joins = f" LEFT JOIN LATERAL ({row}) row_{rows.table} ON true"
    if rows.roles:
        role = (
            "SELECT true AS yes FROM public.user_roles ur JOIN public.roles r ON r.id = ur.role_id"
            f" WHERE ur.user_id = u.id AND r.name IN ({rows.roles}) LIMIT 1"
        )
        joins += f" LEFT JOIN LATERAL ({role}) role_{rows.table} ON true"
    return joins


def _last_backup(settings: Settings, target: Target) -> dict[str, Any]:
    """Return the age of the newest whole backup of this database, and whether it has been proven."""
    place = f"{target.host}:{target.port}/{target.dbname}"
    for backup in list_backups(settings.backups):
        if backup.problem is None and backup.created_at is not None and backup.database == place:
            age = datetime.now(timezone.utc) - backup.created_at
            return {"last_backup_age_seconds": round(age.total_seconds()), "last_backup_proven": backup.proven}
    return {"last_backup_age_seconds": None, "last_backup_proven": None}


def _last_run(connection: Connection) -> dict[str, Any]:
    """Return the last recorded run."""
    runs = memory.runs(connection, limit=1)
    if not runs:
        return {"last_run": None}
    age = datetime.now(timezone.utc) - datetime.fromisoformat(runs[0]["started_at"])
    return {
        "last_run": runs[0],
        "last_run_ok": runs[0]["ok"],
        "last_run_age_seconds": round(age.total_seconds()),
    }
