"""A data migration's frame: what it was asked for, its counts, its transaction, and what is said when that fails."""

from __future__ import annotations

from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from datamigrations.pipe import compress_by_lz4
from rollout import interrupt, transaction
from rollout.database import first_line, raw_connection, sqlstate
from rollout.errors import (
    CHANGED,
    ROLLED_BACK,
    UNTOUCHED,
    DatabaseUnavailable,
    Interrupted,
    MigrationFailed,
    PreflightFailed,
)
from rollout.fingerprint import pin_settings
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from datamigrations.source import SourceTable
    from rollout.fingerprint import Fingerprint
    from rollout.memory import Session
    from rollout.run import Run

QUERY_CANCELED = "57014"

WRITE = "SHARE ROW EXCLUSIVE"
"""The lock on a table that is written: readers go on, other writers wait, so that nothing appears beside us."""

# Whole-table statements: no time for compiling expressions, memory for hash tables, small samples (the planner has to
# know how many rows there are), and workers for what looks cheap to the planner, which does not count decompression.
_SETTINGS = {
    "jit": "off",
    "work_mem": "'64MB'",
    "default_statistics_target": "10",
    "parallel_setup_cost": "100",
    "parallel_tuple_cost": "0.001",
    # What it would sort is hashed in less time; and of tables that were just filled it takes the sizes for others.
    "enable_mergejoin": "off",
    # Tables of the job stand beside those of the schema that everything else means.
    "search_path": "public",
}

_ANALYZE_AT_ONCE = 2

NEWER, SOURCE, KEEP = "newer", "source", "keep"


@dataclass(frozen=True)
class ImportOptions:
    """What ``tool pagtive import`` was asked for (see cli.md).

    ``max_quarantined`` None: any number. ``jobs``: how many COPYs run side by side. ``users_only``: the identity plan
    and no more, always a trial; ``plan_file``: where all of it goes. ``decisions``: rows of
    a file (``decisions.read``). ``retry_rejects``: only the source's rows that are still in quarantine.
    """

    dry_run: bool = False
    limit_users: int | None = None
    source_timezone: str = "Asia/Shanghai"
    tenant: str = "pagtive"
    on_conflict: str = NEWER
    max_quarantined: int | None = None
    allow_role_escalation: bool = False
    jobs: int = 2
    users_only: bool = False
    plan_file: Path | None = None
    decisions: Sequence[Mapping[str, str]] = ()
    retry_rejects: bool = False

    @property
    def partly(self) -> bool:
        """Whether not every row of the source is read."""
        return self.retry_rejects or self.limit_users is not None

    @property
    def decided(self) -> list[str]:
        """The source users whom the decisions are about."""
        return [row["source_id"] for row in self.decisions]


@dataclass
class Counts:
    """What became of one table's rows: read = inserted + updated + unchanged + merged + quarantined."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    quarantined: int = 0
    defaulted: int = 0

    @property
    def balances(self) -> bool:
        """Tell whether every row that was read is accounted for."""
        return self.read == self.inserted + self.updated + self.unchanged + self.merged + self.quarantined

    def as_json(self) -> dict[str, int]:
        """Return the counts of cli.md."""
        return asdict(self)


@dataclass
class Job:
    """An import inside its transaction.

    ``parts``: what of each table has been merged; ``kept``: rows of each table that differ but stay as they are;
    ``mapped``: source users that came into the map; ``plans``: what is to be done with the rows of a table's part, in
    SQL (a table, or a query in brackets; see ``merge.plan``); ``actions``: how many of them are to be inserted,
    updated, …; ``expected``: what the source says of the rows that were written; ``filled``: see ``has_rows``;
    ``rejected``: tables of which some row does not fit.
    """

    connection: Connection
    run: Run
    options: ImportOptions
    parts: dict[str, list[SourceTable]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    kept: dict[str, int] = field(default_factory=dict)
    mapped: int = 0
    plans: dict[str, str] = field(default_factory=dict)
    actions: dict[str, dict[str, int]] = field(default_factory=dict)
    expected: dict[str, Fingerprint] = field(default_factory=dict)
    filled: dict[str, bool] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)
    temporaries: list[str] = field(default_factory=list)

    def execute(self, sql: str, **values: Any) -> int:
        """Run one statement; return the number of rows it touched."""
        return int(self.connection.execute(text(sql), values).rowcount)

    def scalar(self, sql: str, **values: Any) -> Any:
        """Run one query; return its first value."""
        return self.connection.execute(text(sql), values).scalar()

    def has_rows(self, target: str) -> bool:
        """Tell whether a table of ``public`` had rows before this transaction wrote to it; others are locked out."""
        if target not in self.filled:
            self.filled[target] = bool(self.scalar(f"SELECT EXISTS (SELECT FROM public.{target})"))
        return self.filled[target]

    def temporary(self, name: str, query: str, **values: Any) -> None:
        """Make a table of this transaction from a query, with statistics: ``import_…``, gone at its end.

        It takes the place of one of the same name: that was of the part before.
        UNLOGGED in the schema ``rollout`` rather than TEMPORARY: workers of parallel queries can read it.
        https://www.postgresql.org/docs/current/parallel-safety.html
        """
        if name in self.temporaries:
            self.execute(f"DROP TABLE rollout.{name}")
            self.temporaries.remove(name)
        self.connection.execute(text(f"CREATE UNLOGGED TABLE rollout.{name} AS {query}"), values)
        self.connection.exec_driver_sql(f"ANALYZE rollout.{name}")
        self.temporaries.append(name)

    def tidy(self) -> None:
        """Drop the tables of this transaction, before its COMMIT; ROLLBACK drops them too."""
        if self.temporaries:
            self.execute("DROP TABLE " + ", ".join(f"rollout.{name}" for name in self.temporaries))


@contextmanager
def change(session: Session, run: Run, locks: Mapping[str, str], *, dry_run: bool) -> Iterator[Connection]:
    """Yield the connection of the one transaction that changes the target; COMMIT at the end, ROLLBACK on a dry run.

    ``locks``: table of ``public`` → mode, taken before anything is read. Raises ``LockNotAcquired``,
    ``MigrationFailed``, ``Interrupted``.
    """
    settings = session.settings
    with (
        _translated(),
        transaction.open_transaction(
            session.engine, locks, lock_timeout=settings.lock_timeout, statement_timeout=settings.statement_timeout
        ) as connection,
    ):
        with interrupt.cancelling(raw_connection(connection)):
            pin_settings(connection)
            for setting, value in _SETTINGS.items():
                connection.exec_driver_sql(f"SET LOCAL {setting} = {value}")
            compress_by_lz4(connection)
            yield connection
        session.still_ours()
        if dry_run:
            connection.rollback()
            return
        interrupt.finish_from_here()
        with interrupt.finishing(), run.step("commit"):
            transaction.commit(connection, session.engine)
            run.database = CHANGED


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours; the transaction has been rolled back."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None
    except (DBAPIError, psycopg2.Error) as error:
        state = sqlstate(error)
        if state == QUERY_CANCELED and "user request" in first_line(error):
            raise Interrupted from error
        locked = transaction.no_lock(error)
        if locked is not None:
            raise locked from error
        if state == "42501":
            raise PreflightFailed(
                say("a right is missing: {reason}", reason=first_line(error)),
                hint=say("Run this as the owner of the tables, or GRANT what the server names."),
                database=ROLLED_BACK,
            ) from error
        raise MigrationFailed(
            say("the target refused: {reason}", reason=first_line(error)),
            hint=say("Nothing was changed; mend what the server names, then run this again."),
        ) from error


def finish(session: Session, run: Run, written: Mapping[str, int], columns: Mapping[str, str] | None = None) -> None:
    """After COMMIT, refresh the statistics of tables (name → rows written), which no signal interrupts.

    ``columns``: where not all columns of a table are worth it (SQL). Where nothing was written, the database counts as
    untouched. A failure of ANALYZE is only said.
    """
    if not any(written.values()):
        run.database = UNTOUCHED
        return
    tables = deque(sorted((name for name, rows in written.items() if rows), key=written.__getitem__, reverse=True))

    def analyze() -> None:
        # Connections of their own: the session's may be gone, where the server was asked what became of COMMIT.
        connection = session.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with connection, suppress(IndexError):
            while table := tables.popleft():
                only = f" ({columns[table]})" if columns and table in columns else ""
                connection.exec_driver_sql(f"ANALYZE public.{table}{only}")

    with interrupt.finishing(), run.step("analyze") as step:
        try:
            with ThreadPoolExecutor(_ANALYZE_AT_ONCE) as pool:
                for done in [pool.submit(analyze) for _ in range(_ANALYZE_AT_ONCE)]:
                    done.result()
        except (DBAPIError, DatabaseUnavailable) as error:
            step.detail = first_line(error)
