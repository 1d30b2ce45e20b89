"""What a change costs a database: the locks it takes and how long it holds them, WAL, disk, and plans of queries."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from rollout.checks.queries import TOP_QUERIES
from rollout.errors import DatabaseUnavailable
from rollout.messages import say
from rollout.plan import LOCK_MODES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine
    from typing_extensions import Self

_LOOK_SECONDS = 0.02

# What others cannot do to a table meanwhile: https://www.postgresql.org/docs/current/explicit-locking.html
_BLOCKS = {
    "ACCESS EXCLUSIVE": say("reads and writes"),
    "EXCLUSIVE": say("writes"),
    "SHARE ROW EXCLUSIVE": say("writes"),
    "SHARE": say("writes"),
}

# Tables that nobody but the transaction sees yet are in no snapshot of ours, and block nobody.
_LOCKS = text(
    "SELECT n.nspname || '.' || c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.granted AND l.locktype = 'relation'"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND l.pid <> pg_backend_pid() AND c.relkind IN ('r', 'p', 'm')"
    " AND n.nspname !~ '^(pg_|information_schema$|rollout)'"
)


@dataclass(frozen=True)
class Lock:
    """The strongest lock that a table was under, since it was first locked at all; ``blocks``: what of others'."""

    table: str
    mode: str
    seconds: float
    blocks: str

    def as_json(self) -> dict[str, Any]:
        """Return the lock for the report."""
        return asdict(self)


class LockWatch:
    """Looks many times a second who holds which locks on the tables of a database."""

    def __init__(self, engine: Engine) -> None:
        """Take the engine of the database to watch."""
        self._engine = engine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._seen: dict[tuple[str, str], tuple[float, float]] = {}

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        """Look until told to stop; where the server is gone there is nothing to see."""
        try:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                while not self._stop.is_set():
                    now = time.monotonic()
                    for key in connection.execute(_LOCKS):
                        first, _ = self._seen.get((key[0], key[1]), (now, now))
                        self._seen[key[0], key[1]] = first, now
                    self._stop.wait(_LOOK_SECONDS)
        except (SQLAlchemyError, DatabaseUnavailable):
            return

    def locks(self) -> list[Lock]:
        """Return the strongest lock on each table that kept others from something, longest first."""
        strongest: dict[str, tuple[int, float]] = {}
        for (table, mode), (first, last) in self._seen.items():
            rank = LOCK_MODES.index(_name(mode))
            known = strongest.get(table, (-1, 0.0))
            if rank > known[0]:
                strongest[table] = rank, last - first + _LOOK_SECONDS
        found = [
            Lock(table, LOCK_MODES[rank], round(seconds, 2), _BLOCKS[LOCK_MODES[rank]])
            for table, (rank, seconds) in strongest.items()
            if LOCK_MODES[rank] in _BLOCKS
        ]
        return sorted(found, key=lambda one: (-one.seconds, one.table))


def _name(mode: str) -> str:
    """Return a lock mode of pg_locks (AccessExclusiveLock) as SQL writes it (ACCESS EXCLUSIVE)."""
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in mode.removesuffix("Lock"))
    return words.strip().upper()


@dataclass
class Cost:
    """What something took: seconds, bytes of WAL (of the whole server), growth of the database, temporary files."""

    seconds: float = 0.0
    wal_bytes: int = 0
    database_bytes: int = 0
    temporary_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the figures for the report."""
        return asdict(self)


@contextmanager
def cost(connection: Connection, dbname: str) -> Iterator[Cost]:
    """Measure what the block costs a database; ``connection`` (autocommit) is to another database of its server."""
    figures = Cost()
    begin, before = time.monotonic(), _figures(connection, dbname)
    yield figures
    after = _figures(connection, dbname)
    figures.seconds = round(time.monotonic() - begin, 3)
    figures.wal_bytes, figures.database_bytes, figures.temporary_bytes = (
        int(now - then) for now, then in zip(after, before, strict=True)
    )


def _figures(connection: Connection, dbname: str) -> tuple[int, ...]:
    """Return where the WAL stands, the database's size, and how much it has written to temporary files."""
    row = connection.execute(
        text(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), pg_database_size(datname), temp_bytes"
            " FROM pg_stat_database WHERE datname = :name"
        ),
        {"name": dbname},
    ).one()
    return tuple(int(value or 0) for value in row)


def plans(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return how the planner would run each top query that this schema can answer: its cost, and what it reads how."""
    named = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'"
    columns = set(connection.execute(text(named)).scalars())
    found = {}
    for query in TOP_QUERIES:
        if {f"{query.table}.{column}" for column in query.columns} <= columns:
            answer = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {query.sql}").scalar_one()
            plan = answer[0]["Plan"]
            found[f"{query.table}: {query.purpose}"] = {"cost": plan["Total Cost"], "plan": _in_short(plan)}
    return found


def _in_short(plan: dict[str, Any]) -> str:
    """Return a plan's ways to read tables, on one line."""
    own = plan["Node Type"]
    if "Index Name" in plan:
        own += f" ({plan['Index Name']})"
    return " ← ".join([own, *(_in_short(child) for child in plan.get("Plans", ()))])
