"""Preflight: everything that could stop the upgrade, found before anything is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import adopt, catalog, manifest, mending, plan
from rollout.checks.registry import Area, Subject, check
from rollout.database import OUR_SCHEMAS, raw_connection, server_major
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator


@check(Area.PREFLIGHT)
def server_is_a_primary(subject: Subject) -> Iterator[Finding]:
    """The server accepts writes: neither a replica nor read-only."""
    if subject.connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one():
        yield Finding("server", say("the server is a replica"), say("Point DATABASE_URL to the primary."))
    elif subject.connection.execute(text("SHOW default_transaction_read_only")).scalar_one() == "on":
        yield Finding(
            "server",
            say("transactions are read-only by default"),
            say("ALTER DATABASE … (or ROLE …) SET default_transaction_read_only = off; or use another role."),
        )


@check(Area.PREFLIGHT)
def no_pooler_stands_between(subject: Subject) -> Iterator[Finding]:
    """We talk to the server itself: a pooler hands one session, with its locks, to several clients."""
    reported = raw_connection(subject.connection).info.backend_pid
    actual = subject.connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    if reported != actual:
        yield Finding(
            "server",
            say("a connection pooler stands between us and the server"),
            say("Point DATABASE_URL to PostgreSQL's own port (often 5432 instead of 6432)."),
        )


@check(Area.PREFLIGHT)
def encoding_is_utf8(subject: Subject) -> Iterator[Finding]:
    """The database's encoding is UTF8: seed rows and comments are Chinese."""
    encoding = subject.connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        yield Finding("database", say("the encoding is {encoding}", encoding=encoding), say("Only UTF8 is supported."))


@check(Area.PREFLIGHT)
def we_may_create(subject: Subject) -> Iterator[Finding]:
    """We may create in schema public, and schemas of our own where they are missing."""
    row = subject.connection.execute(
        text(
            "SELECT has_schema_privilege('public', 'CREATE'), has_database_privilege(current_database(), 'CREATE'),"
            " current_user, current_database(), to_regnamespace('rollout') IS NOT NULL"
        )
    ).one()
    if not row[0]:
        yield Finding(
            "schema public",
            say("{user} may not create tables in schema public", user=row[2]),
            say('As its owner: GRANT CREATE ON SCHEMA public TO "{user}";', user=row[2]),
        )
    if not row[1] and not row[4]:
        yield Finding(
            "database",
            say("{user} may not create the schema {schema}", user=row[2], schema=OUR_SCHEMAS[0]),
            say('As its owner: GRANT CREATE ON DATABASE "{database}" TO "{user}";', database=row[3], user=row[2]),
        )


@check(Area.PREFLIGHT)
def we_may_alter(subject: Subject) -> Iterator[Finding]:
    """We own the tables that the pending revisions alter, and may refer to those they only refer to."""
    assert subject.steps is not None  # noqa: S101
    for table, mode in subject.steps.locks().items():
        row = subject.connection.execute(
            text(
                "SELECT pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner), current_user,"
                " has_table_privilege(c.oid, 'REFERENCES'), has_table_privilege(c.oid, 'SELECT')"
                " FROM pg_class c WHERE c.oid = to_regclass(:table)"
            ),
            {"table": f"public.{table}"},
        ).one_or_none()
        if row is None:
            continue
        if mode == "ACCESS EXCLUSIVE" and not row[0]:
            yield Finding(
                table,
                say("{user} does not own the table (its owner is {owner})", user=row[2], owner=row[1]),
                say('Run as {owner}, or: GRANT "{owner}" TO "{user}";', owner=row[1], user=row[2]),
            )
        elif not row[0] and not (row[3] and row[4]):
            yield Finding(
                table,
                say("{user} may not refer to the table", user=row[2]),
                say('As its owner: GRANT SELECT, UPDATE, REFERENCES ON {table} TO "{user}";', table=table, user=row[2]),
            )


@check(Area.PREFLIGHT)
def uuids_can_be_made(subject: Subject) -> Iterator[Finding]:
    """gen_random_uuid() is there, or (PostgreSQL 12) the extension pgcrypto may be created."""
    known, available, superuser = subject.connection.execute(
        text(
            "SELECT to_regprocedure('gen_random_uuid()') IS NOT NULL,"
            " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgcrypto'),"
            " current_setting('is_superuser') = 'on'"
        )
    ).one()
    if not known and not (available and superuser):
        yield Finding(
            "gen_random_uuid()",
            say("PostgreSQL 12 needs the extension pgcrypto, which is not there"),
            say("As a superuser, in this database: CREATE EXTENSION pgcrypto; (package postgresql-contrib)"),
        )


@check(Area.PREFLIGHT)
def what_is_there_is_identical(subject: Subject) -> Iterator[Finding]:
    """An object of ours that exists already has our definition (names of constraints and indexes aside)."""
    assert subject.steps is not None  # noqa: S101
    wanted = manifest.at(
        [revision.id for revision in plan.up_to(subject.steps.target)], major=server_major(subject.connection)
    )
    there = catalog.read(subject.connection)  # all of it: something else may have the name of ours
    taken = adopt.taken_names(there)
    for state in adopt.inspect(subject.connection, subject.steps, there):
        if state.state == adopt.DIFFERENT:
            yield Finding(
                state.key.partition(" ")[2],
                say("{key} exists with another definition: {how}", key=state.key, how=state.in_short),
                _mended(mending.mends(state.key, wanted, there, taken)),
            )


def _mended(mends: mending.Mends) -> str:
    """Say what to type for an object that differs."""
    if mends.lossless:
        return say(
            "This loses nothing and mends what it can, it may fail on rows that do not fit: {statements}",
            statements=" ".join(mends.lossless),
        )
    if mends.by_owner:
        return say(
            "This takes away or renames what is there; only its owner can decide: {statements}",
            statements=" ".join(mends.by_owner),
        )
    return say("Alter or rename it; `tool adopt` lists every difference.")


@check(Area.PREFLIGHT)
def revisions_fit_one_transaction(subject: Subject) -> Iterator[Finding]:
    """Every pending revision may run inside the one transaction."""
    assert subject.steps is not None  # noqa: S101
    for revision in subject.steps.revisions:
        if not revision.atomic:
            yield Finding(
                revision.path.name,
                say("the revision declares atomic = False: it cannot run inside a transaction"),
                say("Run `tool migrate --mode online`."),
            )


@check(Area.PREFLIGHT)
def emails_are_distinct(subject: Subject) -> Iterator[Finding]:
    """No two users have one e-mail address: the same is an error, one that differs in case or blanks a warning."""
    if "column users.email" not in subject.catalog or plan.up_to(subject.revision):
        return
    exact, alike = subject.connection.execute(
        text(
            "SELECT (SELECT count(*) FROM (SELECT FROM users WHERE email IS NOT NULL"
            " GROUP BY email HAVING count(*) > 1) e),"
            " (SELECT count(*) FROM (SELECT FROM users WHERE email IS NOT NULL"
            " GROUP BY lower(btrim(email)) HAVING count(DISTINCT email) > 1) e)"
        )
    ).one()
    query = "SELECT lower(btrim(email)), array_agg(id) FROM users GROUP BY 1 HAVING count(*) > 1;"
    if exact:
        yield Finding(
            "users.email",
            say("{count} e-mail address(es) belong to more than one user", count=exact),
            say("List them, and give each user an own address: {query}", query=query),
        )
    if alike:
        yield Finding(
            "users.email",
            say(
                "{count} e-mail address(es) differ only in case or blanks: they cannot be matched by an import",
                count=alike,
            ),
            say("List them: {query}", query=query),
            WARNING,
        )


@check(Area.PREFLIGHT)
def nothing_rewrites_our_statements(subject: Subject) -> Iterator[Finding]:
    """No rule and no forced row security stands on a table that we write to; event triggers are warned about."""
    for key, found in subject.catalog.items():
        if key.startswith("rule ") and found["table"] in adopt.WRITTEN:
            yield Finding(
                key.partition(" ")[2],
                say("a rule rewrites statements on {table}", table=found["table"]),
                say("ALTER TABLE {table} DISABLE RULE …; for the time of the upgrade.", table=found["table"]),
            )
        if key.startswith("event trigger ") and found.get("enabled") != "D":
            yield Finding(
                key.partition(" ")[2],
                say("an event trigger runs on every DDL statement of the upgrade"),
                say(
                    "Make sure that it writes to no table: the upgrade would be rolled back (exit code 9). Else"
                    " ALTER EVENT TRIGGER … DISABLE; for the time of the upgrade."
                ),
                WARNING,
            )
    for table in adopt.WRITTEN:
        if subject.catalog.get(f"table {table}", {}).get("force_row_security"):
            yield Finding(
                table,
                say("row security is forced: our statements would miss rows"),
                say("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY; for the time of the upgrade.", table=table),
            )


@check(Area.PREFLIGHT)
def nobody_holds_our_tables(subject: Subject) -> Iterator[Finding]:
    """No prepared transaction and no long-running one holds a lock on a table that the upgrade locks."""
    assert subject.steps is not None  # noqa: S101
    rows = subject.connection.execute(
        text(
            "SELECT DISTINCT c.relname, l.pid, extract(epoch FROM now() - a.xact_start)::int AS seconds"
            " FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace"
            " LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
            " WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND n.nspname = 'public' AND c.relname = ANY(:tables) AND l.granted"
            " AND l.pid IS DISTINCT FROM pg_backend_pid()"
            " AND (l.pid IS NULL OR now() - a.xact_start > interval '60 seconds')"
        ),
        {"tables": list(subject.steps.locks())},
    )
    for row in rows:
        if row.pid is None:
            yield Finding(
                row.relname,
                say("a prepared transaction holds a lock on the table"),
                say("SELECT gid FROM pg_prepared_xacts; then COMMIT PREPARED or ROLLBACK PREPARED."),
                ERROR,
            )
        else:
            yield Finding(
                row.relname,
                say("session {pid} has held a lock on the table for {seconds} s", pid=row.pid, seconds=row.seconds),
                say("SELECT pg_terminate_backend({pid}); if it may go.", pid=row.pid),
                WARNING,
            )
