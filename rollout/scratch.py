"""Databases that we make beside others: where, from the first moment marked as ours, dropped again whatever happens.

Only ``kill -9`` of us, or a server that goes down, leaves one behind. The next run finds it by its mark (the database's
comment) and its name, sees that nobody is at work on it (a lock that ends with its session), says so, and drops it.
Whoever gives it another name makes it theirs: a mark alone drops nothing.
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from rollout import databases, roles
from rollout.database import describe, engine_for, first_line, halves, identifier, key_of
from rollout.embedded import EmbeddedServer
from rollout.errors import RolloutError
from rollout.interrupt import finishing
from rollout.messages import say
from rollout.needs import Needs, obstacles
from rollout.settings import Server
from rollout.wheel import required_wheel_bin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Engine

    from rollout.backups.manifest import Manifest
    from rollout.database import Target
    from rollout.run import Run
    from rollout.settings import Settings

EMBEDDED = "embedded"
"""``--on embedded``: a server of our own, for as long as it takes."""

MARK = "lawsker-schema: scratch database, may be dropped when nobody works on it"

_NAMED_LIKE_OURS = re.compile(r".*__(proof|restored|rehearsal)_\d{8}T\d{6}", re.DOTALL)
_LEAST_ROOM = 64 * 2**20


@dataclass(frozen=True)
class Place:
    """A server to make databases on; ``admin`` (autocommit) is connected to a database that is not the target.

    ``is_ours``: an embedded server that nobody else uses.
    """

    server: Server
    engine: Engine
    admin: Connection
    target: Target
    failed: type[RolloutError]
    is_ours: bool = False

    @property
    def name(self) -> str:
        """How the place is called in words."""
        return EMBEDDED if self.is_ours else f"{self.target.host}:{self.target.port}"


@contextmanager
def place(
    settings: Settings, run: Run, on: str | None, failed: type[RolloutError], *, durable: bool = False
) -> Iterator[Place]:
    """Yield where scratch databases are made: the target's server, ``embedded``, or the server of a URL.

    What killed runs left there is dropped first. ``durable``: an embedded server that is no faster than a real one.
    """
    if on == EMBEDDED:
        with (
            EmbeddedServer(fast=not durable, options={"max_wal_size": "4GB"}) as embedded,
            _connected(embedded.server(), "", failed, is_ours=True) as there,
        ):
            yield there
        return
    server = _server_of(settings, on)
    if on is not None and "password" in server.parameters:  # everybody who lists processes has seen it
        run.listener.note(say("the password in --on shows in the list of processes; ~/.pgpass or PGPASSWORD keep it"))
    with _connected(server, "", failed) as there:
        run.target = run.target or there.target
        clean_up(run, there.admin)
        yield there


def _server_of(settings: Settings, on: str | None) -> Server:
    """Return the target's server, or the one of a URL."""
    return settings.target if on is None else Server.from_url("--on", on)


@contextmanager
def _connected(server: Server, dbname: str, failed: type[RolloutError], *, is_ours: bool = False) -> Iterator[Place]:
    """Connect to a database to work from."""
    engine = databases.maintenance_engine(server, dbname)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as admin:
        databases.unhurried(admin)
        yield Place(server, engine, admin, describe(admin, server), failed, is_ours)


def expect(settings: Settings, source: Server, on: str | None, failed: type[RolloutError]) -> None:
    """Raise, before anything is dumped, where no copy of ``source``'s database could be made ``on`` a place."""
    with engine_for(source).connect() as connection:
        major, needs = describe(connection, source).major, Needs.of(connection)
    if on != EMBEDDED:
        with _connected(_server_of(settings, on), "", failed) as there:
            _require(there, major, needs)
        return
    brought = {path.stem for path in required_wheel_bin().parent.glob("share/**/extension/*.control")}
    lacking = [one["name"] for one in needs.extensions if one["name"] not in brought]
    if lacking:
        raise failed(
            say("the embedded PostgreSQL has no extension {name}", name=", ".join(lacking)),
            hint=say("Prove it on this server, or on another one that has it: --on URL."),
        )


def require(there: Place, manifest: Manifest) -> None:
    """Raise where this server cannot take the backup: rights, version, roles, extensions, collations, room."""
    if there.is_ours:
        roles.make(there.admin, manifest.needs.roles)
    _require(there, manifest.server_major, manifest.needs)


def _require(there: Place, major: int, needs: Needs) -> None:
    """Raise where this server cannot take a copy of a database with these needs, from a server of this major."""
    if major > there.target.major:
        raise there.failed(
            say("the backup is of PostgreSQL {theirs}, this server is {ours}", theirs=major, ours=there.target.major),
            hint=say("Restore it on a server of its own version, or a newer one."),
        )
    found = list(obstacles(there.admin, needs))
    if found:
        raise there.failed("; ".join(problem for problem, _ in found), hint=" ".join(what for _, what in found))
    _require_room(there, needs.bytes)


def _require_room(there: Place, size: int) -> None:
    """Refuse where we see that the server's disk has no room for one more copy; a remote disk is not seen."""
    free, need = room_of(there.admin), room_for(size)
    if free is not None and free < need:
        raise there.failed(
            say("the server's disk has {free} MB free; one more copy of the database needs {need} MB",
                free=free // 2**20, need=need // 2**20),
            hint=say("Make room there; a proof can run elsewhere (--on embedded, --on URL)."),
        )  # fmt: skip


def room_for(size: int) -> int:
    """Return how many bytes one more copy of a database of this size needs, with some for the WAL."""
    return size + size // 10 + _LEAST_ROOM


def room_of(admin: Connection) -> int | None:
    """Return how many bytes are free on the server's disk; None where it is on another machine, or hidden from us."""
    with suppress(SQLAlchemyError, OSError, ValueError, IndexError):
        directory, started = admin.execute(
            text("SELECT current_setting('data_directory'), extract(epoch FROM pg_postmaster_start_time())::bigint")
        ).one()
        # The same path may be on this machine too, and belong to another server.
        if abs(int((Path(directory) / "postmaster.pid").read_text().splitlines()[2]) - int(started)) <= 1:
            return shutil.disk_usage(directory).free
    return None


@contextmanager
def database(run: Run, there: Place, name: str, manifest: Manifest) -> Iterator[None]:
    """Have an empty database like the backup's, that nobody else may enter, as long as the block runs.

    One that the block has renamed stays.
    """
    with _nobody_else(there.admin, name):
        try:
            _create(there, name, manifest)
            yield
        finally:
            with finishing():
                _drop(run, there.engine, name)


def _create(there: Place, name: str, manifest: Manifest) -> None:
    """Create an empty database like the backup's."""
    try:
        databases.create(there.admin, name, manifest.database, MARK)
    except SQLAlchemyError as error:
        raise there.failed(
            say("the database {name} cannot be created: {reason}", name=name, reason=first_line(error)),
            hint=say("Mend what the server names, then run this again."),
        ) from error


def empty(there: Place, name: str, manifest: Manifest) -> None:
    """Make a ``database`` empty again, within its block: drop it, whoever is in it, and create it anew."""
    databases.drop(there.admin, name)
    _create(there, name, manifest)


@contextmanager
def _nobody_else(admin: Connection, name: str) -> Iterator[None]:
    """Hold a lock that tells others that this database is being worked on."""
    admin.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _key(name)})
    try:
        yield
    finally:
        with suppress(SQLAlchemyError):
            admin.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _key(name)})


def _key(name: str) -> int:
    """Return the key of the lock that belongs to a database's name."""
    return key_of(f"{MARK}: {name}")


def _drop(run: Run, engine: Engine, name: str) -> None:
    """Drop a database; say what to type where that does not work."""
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as admin:
            databases.unhurried(admin)
            databases.drop(admin, name)
    except (SQLAlchemyError, RolloutError) as error:
        run.listener.note(
            say("the scratch database could not be dropped ({reason}); the next run does it, or: {statement}",
                reason=first_line(error), statement=f"DROP DATABASE {identifier(name)};")
        )  # fmt: skip


_LEFT = text(
    "SELECT d.datname, shobj_description(d.oid, 'pg_database') = :mark, pg_has_role(d.datdba, 'USAGE')"
    " FROM pg_database d WHERE NOT d.datistemplate"
    " AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid"
    " AND coalesce(a.backend_type, 'client backend') = 'client backend')"  # autovacuum is nobody
)
_WORKED_ON = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
    " AND classid::bigint = :high AND objid::bigint = :low)"
)


def clean_up(run: Run, admin: Connection) -> None:
    """Drop the databases that killed runs left behind, and say so; name those that only look like it."""
    for name, marked, may_drop in admin.execute(_LEFT, {"mark": MARK}).all():
        named = _NAMED_LIKE_OURS.fullmatch(name) is not None
        if not (marked or named) or admin.execute(_WORKED_ON, halves(_key(name))).scalar_one():
            continue
        if not (marked and named and may_drop):
            run.listener.note(_why_it_stays(name, named=named))
            continue
        try:
            databases.drop(admin, name)
        except SQLAlchemyError as error:
            run.listener.note(say("{name} is left of a killed run: {reason}", name=name, reason=first_line(error)))
        else:
            run.listener.note(say("dropped {name}, which a killed run had left", name=name))


def _why_it_stays(name: str, *, named: bool) -> str:
    """Say what a database may be that has our mark or a name like ours, and what to type if it is that."""
    if named:
        statement = f"DROP DATABASE {identifier(name)};"
        return say("{name} may be what a killed run left; if so: {do}", name=name, do=statement)
    statement = f"COMMENT ON DATABASE {identifier(name)} IS NULL;"
    return say("{name} is marked as scratch, but not named so: it stays; to take the mark off: {do}",
               name=name, do=statement)  # fmt: skip


def without_mark(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a database's properties without our mark, which it has where a killed run's copy was put to use."""
    return {**values, "comment": None if values["comment"] == MARK else values["comment"]}


def engine_of(there: Place, name: str) -> Engine:
    """Return an engine for a database made here."""
    return engine_for(there.server.to_database(name))
