"""One look at a database, and one look after the other: cheap enough to be taken every few seconds."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from rollout import metrics, notify, plan, verify
from rollout.checks.registry import Area
from rollout.database import describe, engine_for, first_line
from rollout.errors import UNTOUCHED, DatabaseUnavailable, PreflightFailed, RolloutError, VerificationFailed
from rollout.findings import Finding
from rollout.messages import Message, say
from rollout.report import configured
from rollout.run import Run, Silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection, Row

    from rollout.run import Listener
    from rollout.settings import Server, Settings

STATEMENT_SECONDS, LOCK_SECONDS = 10, 1
"""A look gives up on a statement, or on a table that somebody has locked, after these."""

SHORTEST_INTERVAL = 0.1

HEALTHY, UNHEALTHY, UNREACHABLE = say("healthy"), say("unhealthy"), say("unreachable")

_WAITING = """
SELECT l.pid, l.locktype, l.mode, l.relation, l.page, l.tuple, l.transactionid::text, l.virtualxid, l.objid,
       coalesce(l.relation::regclass::text, l.locktype) AS what, pg_blocking_pids(l.pid) AS blockers
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND a.datname = current_database() AND l.pid <> pg_backend_pid()
"""


def status(settings: Settings, run: Run) -> None:
    """Take one look; fill ``run.result`` with cli.md's keys of status.

    Reads catalogs and the server's views only, but for a bounded sample of users. Raises ``DatabaseUnavailable``; and
    ``VerificationFailed`` where the revision is unknown, the structure not as it must be, or sessions wait for locks.
    """
    engine = engine_for(_watched(settings.target))
    try:
        with ExitStack() as stack:
            with run.step("connect"):
                connection = stack.enter_context(engine.connect())
                run.target = target = describe(connection, settings.target)
                connection.rollback()
            with run.step("look"):
                _begin(connection, settings)
                waits = _lock_waits(connection)
                findings = [
                    *waits,
                    *_look(connection, run),
                ]  # waits first: they are the cause of what a look cannot read
                figures = {**metrics.read(connection, settings, target), "lock_waits": len(waits)}
                run.result |= {"healthy": not findings, "metrics": figures}
                connection.rollback()
    except DBAPIError as error:
        raise _failed(error) from error
    if findings:
        run.findings[:] = findings
        raise VerificationFailed(
            say(
                "unhealthy: {count} finding(s), first: {subject}: {problem}",
                count=len(findings),
                subject=findings[0].subject,
                problem=findings[0].problem,
            ),
            hint=findings[0].hint,
            database=UNTOUCHED,
            findings=findings,
        )


def _watched(server: Server) -> Server:
    """Return the server with keepalives: a connection that died without a word shows after seconds, not hours.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-KEEPALIVES
    """
    keepalives = {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3"}
    return replace(server, parameters={**keepalives, **server.parameters})


def _begin(connection: Connection, settings: Settings) -> None:
    """Begin a read-only transaction with short timeouts; shorter ones of the settings hold."""
    statement = min(settings.statement_timeout or STATEMENT_SECONDS, STATEMENT_SECONDS)
    lock = min(settings.lock_timeout or LOCK_SECONDS, LOCK_SECONDS)
    verify.read_only(connection, replace(settings, statement_timeout=statement, lock_timeout=lock))


def _failed(error: DBAPIError) -> RolloutError:
    """Say that a look came to no end."""
    if error.connection_invalidated:
        return DatabaseUnavailable(
            say("the connection was lost: {reason}", reason=first_line(error)),
            hint=say("Check that the server runs, then run this again."),
        )
    return VerificationFailed(
        say("the look could not be finished: {reason}", reason=first_line(error)),
        hint=say("Mend what the server names, then run this again."),
        database=UNTOUCHED,
    )


def _look(connection: Connection, run: Run) -> list[Finding]:
    """Find where the database stands in the history, and what is wrong with its structure."""
    head = plan.history()[-1].id
    run.result |= {"current_revision": None, "head_revision": head, "pending": []}
    try:
        with connection.begin_nested():
            revision = plan.current(connection)
            run.result["current_revision"] = revision
            run.result["pending"] = [
                {"revision": one.id, "family": one.family} for one in plan.make(revision, head).revisions
            ]
            subject = verify.subject_at(connection, revision)
            subject.catalog  # noqa: B018 - read once here, lest every check waits for the same lock
            return verify.run_areas(subject, (Area.STRUCTURE,)).errors
    except PreflightFailed as error:
        run.result["current_revision"] = ", ".join(plan.recorded(connection)) or None
        return [verify.unknown_revision(error)]
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        problem = say("the structure could not be read: {reason}", reason=first_line(error))
        hint = say("Read rights on schema public are needed; `tool verify` waits longer for locks.")
        return [Finding("database", problem, hint, check="structure_can_be_read", area=Area.STRUCTURE.value)]


def _lock_waits(connection: Connection) -> list[Finding]:
    """Return the sessions that wait for a lock, and still wait for the same one a second later."""
    before = _waiting(connection)
    if not before:
        return []
    time.sleep(1)
    after = _waiting(connection)
    return [_wait(after[key]) for key in before if key in after]


def _waiting(connection: Connection) -> dict[tuple[Any, ...], Row[Any]]:
    """Return each wait there is, by session and the lock that it waits for."""
    return {tuple(row[:9]): row for row in connection.execute(text(_WAITING))}


def _wait(row: Row[Any]) -> Finding:
    """Say who waits for what, and what to type."""
    blockers = ", ".join(str(pid) for pid in row.blockers) or "-"
    return Finding(
        f"pid {row.pid}",
        say("waits for {mode} on {what}, held by pid {blockers}", mode=row.mode, what=row.what, blockers=blockers),
        say("Look at it in pg_stat_activity; `SELECT pg_cancel_backend({pid})` ends what it does.", pid=blockers),
        check="no_session_waits_for_a_lock",
        area=Area.PERFORMANCE.value,
    )


def monitor(
    settings: Settings,
    *,
    interval: float,
    duration: float,
    on_sample: Callable[[dict[str, Any]], None],
    prometheus: Path | None = None,
    listener: Listener | None = None,
) -> int:
    """Take a look every ``interval`` seconds for ``duration`` seconds (0: for ever); return the last one's exit code.

    ``on_sample`` gets each look's JSON, with ``reachable``: a server that is gone is a sample, not the end.
    ``prometheus``: a textfile for node_exporter, written after each look. When health changes, people are notified.
    """
    listener = listener or Silent()
    interval = max(interval, SHORTEST_INTERVAL)
    begin = time.monotonic()
    state = HEALTHY
    while True:
        run = _sample(settings)
        if prometheus is not None:
            _write_textfile(prometheus, settings, run, listener)
        on_sample(run.as_json())
        if _state(run) != state:
            state = _state(run)
            _tell(settings, run, state, listener)
        passed = time.monotonic() - begin
        following = (passed // interval + 1) * interval
        if duration and following > duration:
            return run.exit_code
        time.sleep(following - passed)


def _sample(settings: Settings) -> Run:
    """Take one look, whatever comes of it."""
    run = Run("monitor")
    try:
        status(settings, run)
    except RolloutError as error:
        run.failed(error)
    run.result = {"reachable": not isinstance(run.error, DatabaseUnavailable), "healthy": False} | run.result
    run.finish()
    return run


def _state(run: Run) -> Message:
    """Return a sample's health in a word."""
    if run.error is None:
        return HEALTHY
    return UNREACHABLE if isinstance(run.error, DatabaseUnavailable) else UNHEALTHY


def _tell(settings: Settings, run: Run, state: Message, listener: Listener) -> None:
    """Notify people that health changed."""
    title = say("{database} is {state}", database=configured(settings.target), state=state)
    body = say("error: {message}", message=run.error.message) if run.error else title
    notify.send(settings, listener, title, body)


def _write_textfile(path: Path, settings: Settings, run: Run, listener: Listener) -> None:
    """Write a sample as Prometheus reads it, whole or not at all; what cannot be written is a note.

    https://github.com/prometheus/node_exporter#textfile-collector
    """
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile  # noqa: PLC0415 - most looks write none

    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float) -> None:
        Gauge(f"lawsker_{name}", text, ["database"], registry=registry).labels(configured(settings.target)).set(value)

    gauge("up", "1 when the database could be reached", run.result["reachable"])
    gauge("healthy", "1 when the revision is known, the structure right, and nobody waits for locks", run.error is None)
    gauge("findings", "What the look found wrong", len(run.findings))
    gauge("look_seconds", "How long the look took", run.seconds)
    if "pending" in run.result:
        gauge("pending_revisions", "Revisions that the database does not have yet", len(run.result["pending"]))
    for name, value in run.result.get("metrics", {}).items():
        if name in metrics.HELP and value is not None:
            gauge(name, metrics.HELP[name], value)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        listener.note(say("the textfile could not be written: {reason}", reason=str(error)))
