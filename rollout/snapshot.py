"""One moment of a database to read in, and long queries that Ctrl-C still ends."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import psycopg2

from rollout.database import lift_limits, raw_connection
from rollout.fingerprint import pin_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

T = TypeVar("T")


@contextmanager
def snapshot(engine: Engine, *, lock_timeout: float) -> Iterator[Connection]:
    """Yield a connection in a read-only REPEATABLE READ transaction that waits ``lock_timeout`` seconds for a lock.

    Everything that the text of values depends on is pinned, the server's own timeouts are off. All of that is done with
    SET LOCAL, which takes no snapshot: the first query does.
    """
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**options) as connection:
        pin_settings(connection)
        connection.exec_driver_sql("SET LOCAL search_path = pg_catalog")  # names of types and tables come qualified
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        lift_limits(connection)
        yield connection


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """Give back what the block locked: a query locks every index of its tables, and 2,000 tables have many."""
    nested = connection.begin_nested()
    try:
        yield
    finally:
        nested.rollback()


@contextmanager
def in_background(connection: Connection, work: Callable[[], T], *others: Connection) -> Iterator[Future[T]]:
    """Do ``work``, which uses ``connection``, in another thread; a block that fails cancels its query and waits for it.

    psycopg2 hears no Ctrl-C while a query runs, and some of ours run for minutes. ``others``: further connections that
    ``work`` uses.
    """
    used = [raw_connection(one) for one in (connection, *others)]
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            yield future
        except BaseException:
            while not future.done():
                for raw in used:
                    with suppress(psycopg2.Error):  # without a connection the query has ended by itself
                        raw.cancel()
                wait([future], 0.2)
            raise


def patiently(
    connection: Connection, work: Callable[[], T], watch: Callable[[], None] = lambda: None, *others: Connection
) -> T:
    """Return what ``work`` returns, which uses ``connection``; Ctrl-C cancels its query. ``watch`` is called often."""
    with in_background(connection, work, *others) as future:
        while not future.done():
            wait([future], 0.2)
            watch()
        return future.result()
