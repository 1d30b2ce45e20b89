"""Whole databases: made like another one, given what no dump holds, dropped, and swapped by name."""

from __future__ import annotations

import re
from concurrent.futures import wait
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg2.extensions import QuotedString
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from rollout.database import engine_for, quote, raw_connection, sqlstate
from rollout.errors import DatabaseUnavailable
from rollout.snapshot import in_background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from sqlalchemy import Connection, Engine

    from rollout.settings import Server

_SQL = Path(__file__).parent / "sql"
_NAME_BYTES = 63
_OBJECT_IN_USE = "55006"
_SET_SINCE, _PROVIDERS_SINCE, _IDLE_TIMEOUT_SINCE, _FORCE_SINCE = 16, 15, 14, 13

# Of a session that is not ours to look at, only database, pid and role show. A walsender in a database decodes it.
_A_CLIENTS = (
    "pid <> pg_backend_pid() AND (backend_type IN ('client backend', 'walsender')"
    " OR (backend_type IS NULL AND usesysid IS NOT NULL))"
)

# Settings whose value is a list of quoted names, stored as it was quoted (GUC_LIST_QUOTE in PostgreSQL's guc_tables.c).
_LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}


def properties(connection: Connection, name: str | None = None) -> dict[str, Any]:
    """Return what belongs to a database itself (default: the connected one): sql/database_properties.sql."""
    sql = (_SQL / "database_properties.sql").read_text(encoding="utf-8")
    values: dict[str, Any] = connection.exec_driver_sql(sql, {"name": name}).scalar_one()
    return values


def maintenance_engine(server: Server, dbname: str) -> Engine:
    """Return an engine for a database other than ``dbname`` on its server: one cannot rename what one is in.

    Raises ``DatabaseUnavailable``.
    """
    reason: DatabaseUnavailable | None = None
    for name in ("postgres", "template1", server.database):
        if name not in ("", dbname):
            engine = engine_for(server.to_database(name))
            try:
                engine.connect().close()
            except DatabaseUnavailable as error:
                reason = reason or error
            else:
                return engine
    raise reason or RuntimeError("no database to work from")


def unhurried(connection: Connection) -> None:
    """Switch off, for this session, the timeouts that a role or a database may have: our statements take their time."""
    connection.exec_driver_sql("SET statement_timeout = 0")
    if raw_connection(connection).server_version // 10_000 >= _IDLE_TIMEOUT_SINCE:
        connection.exec_driver_sql("SET idle_session_timeout = 0")


def name_for(dbname: str, purpose: str) -> str:
    """Return a new database's name, like ``lawsker__restored_20260131T235959``, within PostgreSQL's 63 bytes."""
    suffix = f"__{purpose}_{datetime.now(timezone.utc):%Y%m%dT%H%M%S}"
    head = dbname.encode()[: _NAME_BYTES - len(suffix.encode())].decode(errors="ignore")
    return head + suffix


def exists(admin: Connection, name: str) -> bool:
    """Tell whether there is a database of this name."""
    found = admin.execute(text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)"), {"name": name})
    return bool(found.scalar_one())


def owner_we_are_not(admin: Connection, name: str) -> str | None:
    """Return None where we have the rights of the database's owner, else the owner's name."""
    row = admin.execute(
        text(
            "SELECT pg_get_userbyid(datdba), pg_has_role(current_user, datdba, 'USAGE')"
            " FROM pg_database WHERE datname = :name"
        ),
        {"name": name},
    ).one()
    return None if row[1] else str(row[0])


def create(admin: Connection, name: str, values: Mapping[str, Any], comment: str) -> None:
    """Create an empty database like the one with these ``properties``; nobody but us may connect for now.

    It belongs to its owner from the first, where we may make that so: what is in it may need the owner's rights.
    """
    major = raw_connection(admin).server_version // 10_000
    options = {"ENCODING": values["encoding"], "LC_COLLATE": values["collate"], "LC_CTYPE": values["ctype"]}
    if major >= _PROVIDERS_SINCE:
        options["LOCALE_PROVIDER"] = values["provider"]
        if values["provider"] != "libc":
            options["ICU_LOCALE" if values["provider"] == "icu" else "BUILTIN_LOCALE"] = values["locale"]
        if values["icu_rules"]:
            options["ICU_RULES"] = values["icu_rules"]
    said = " ".join(f"{option} {_literal(admin, value)}" for option, value in options.items())
    tablespace = values["tablespace"]
    there = admin.execute(text("SELECT EXISTS (SELECT FROM pg_tablespace WHERE spcname = :name)"), {"name": tablespace})
    if tablespace != "pg_default" and there.scalar_one():
        said += f" TABLESPACE {quote(tablespace)}"
    owner = "CURRENT_USER"
    if _may_own(admin, values["owner"], major):
        owner = quote(values["owner"])
        said += f" OWNER {owner}"
    admin.exec_driver_sql(f"CREATE DATABASE {quote(name)} TEMPLATE template0 {said}")
    admin.exec_driver_sql(f"COMMENT ON DATABASE {quote(name)} IS {_literal(admin, comment)}")
    admin.exec_driver_sql(f"REVOKE ALL ON DATABASE {quote(name)} FROM PUBLIC")
    admin.exec_driver_sql(f"REVOKE CONNECT ON DATABASE {quote(name)} FROM {owner}")
    admin.exec_driver_sql(f"GRANT CONNECT ON DATABASE {quote(name)} TO CURRENT_USER")


def _may_own(admin: Connection, owner: str, major: int) -> bool:
    """Tell whether we may make a database that belongs to this role, and then have the rights of its owner."""
    may = "SET" if major >= _SET_SINCE else "MEMBER"
    sql = text(
        "SELECT coalesce(bool_and(pg_has_role(oid, :may) AND pg_has_role(oid, 'USAGE')), false)"
        " FROM pg_roles WHERE rolname = :owner"
    )
    return bool(admin.execute(sql, {"may": may, "owner": owner}).scalar_one())


def give(
    admin: Connection,
    name: str,
    values: Mapping[str, Any],
    refused: Callable[[str, DBAPIError], object] | None = None,
) -> None:
    """Give a database the owner, grants, settings and connection limit of these ``properties``.

    The rest comes at last (``comment_on``): until then the comment says that the database is scratch, to be dropped.
    ``refused`` hears of settings that the server does not let us make; without it, the first such raises.
    """
    database = quote(name)
    admin.exec_driver_sql(f"ALTER DATABASE {database} OWNER TO {quote(values['owner'])}")
    admin.exec_driver_sql(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC, CURRENT_USER, {quote(values['owner'])}")
    for role, privilege, grantable in values["acl"] or ():
        to = "PUBLIC" if role is None else quote(role)
        admin.exec_driver_sql(
            f"GRANT {privilege} ON DATABASE {database} TO {to}{' WITH GRANT OPTION' if grantable else ''}"
        )
    for role, settings in values["settings"] or ():
        for setting in settings:
            which = f"DATABASE {database}" if role is None else f"ROLE {quote(role)} IN DATABASE {database}"
            option, _, value = setting.partition("=")
            sql = f"ALTER {which} SET {quote(*option.split('.'))} TO {_setting(admin, option, value)}"
            try:
                admin.exec_driver_sql(sql)
            except DBAPIError as error:
                if refused is None or error.connection_invalidated:
                    raise
                refused(setting, error)
    if values["connection_limit"] != -1:
        admin.exec_driver_sql(f"ALTER DATABASE {database} CONNECTION LIMIT {values['connection_limit']}")


def comment_on(admin: Connection, name: str, values: Mapping[str, Any]) -> str:
    """Return the SQL for the comment of a database, and for its being a template, as these ``properties`` say."""
    comment = values["comment"]
    sql = f"COMMENT ON DATABASE {quote(name)} IS {'NULL' if comment is None else _literal(admin, comment)}"
    return f"{sql}; ALTER DATABASE {quote(name)} IS_TEMPLATE true" if values.get("is_template") else sql


def unlike(admin: Connection, name: str, values: Mapping[str, Any]) -> list[str]:
    """Return in which ``properties`` (those of ``comment_on`` aside) a database differs from these."""
    found = properties(admin, name)
    # The collation's version is the system's of today: indexes were made anew by it.
    left_out = {"name", "comment", "collation_version", "tablespace", "is_template"}
    wanted = {one: value for one, value in values.items() if one not in left_out}
    return [one for one in wanted if _compared(one, wanted[one]) != _compared(one, found.get(one))]


def _compared(one: str, value: Any) -> Any:
    """Return a property as it is compared: of a right that several have granted, the owner grants the most there is."""
    if one != "acl":
        return value
    entries = {tuple(entry) for entry in value or ()}
    return {entry for entry in entries if entry[2] or (*entry[:2], True) not in entries}


def _setting(admin: Connection, option: str, value: str) -> str:
    """Return a setting's stored value as SQL."""
    if option.lower() not in _LISTS:
        return _literal(admin, value)
    names = re.findall(r'"((?:[^"]|"")*)"|([^,\s"]+)', value)
    return ", ".join(_literal(admin, quoted.replace('""', '"') or plain) for quoted, plain in names) or "''"


def _literal(connection: Connection, value: str) -> str:
    """Return a string as an SQL literal, its percent signs doubled for the driver, as ``quote`` does it."""
    quoted = QuotedString(value)
    quoted.prepare(raw_connection(connection))
    return str(quoted.getquoted().decode()).replace("%", "%%")


def drop(admin: Connection, name: str) -> None:
    """Drop a database that we made, whoever is in it."""
    if raw_connection(admin).server_version // 10_000 >= _FORCE_SINCE:
        admin.exec_driver_sql(f"DROP DATABASE IF EXISTS {quote(name)} WITH (FORCE)")
    else:
        terminate(admin, [name])
        admin.exec_driver_sql(f"DROP DATABASE IF EXISTS {quote(name)}")


def sessions(admin: Connection, name: str) -> int:
    """Return how many clients are in a database."""
    count = admin.execute(
        text(f"SELECT count(*) FROM pg_stat_activity WHERE datname = :name AND {_A_CLIENTS}"),
        {"name": name},
    )
    return int(count.scalar_one())


def terminate(admin: Connection, names: Iterable[str]) -> None:
    """End the sessions of all clients in these databases."""
    admin.execute(
        text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(:names) AND {_A_CLIENTS}"),
        {"names": list(names)},
    )


def typed(sql: str) -> str:
    """Return a statement as an operator types it: ``quote`` doubles percent signs, for the driver."""
    return sql.replace("%%", "%")


def swap(
    engine: Engine, renames: list[tuple[str, str]], *, lock_timeout: float, then: Sequence[str] = (), tries: int = 3
) -> None:
    """Rename databases in one transaction and end the sessions of all clients in them; ``then``: run these in it too.

    RENAME locks the database against new sessions, then waits up to 5 s for those there are to leave; we end them in
    that time from a second session. So there is no moment at which nobody may connect and nothing is renamed, whatever
    happens to us. Ctrl-C that comes too late is not heard: the caller finishes. Raises ``DBAPIError``, with nothing
    renamed where the server still answers.
    https://www.postgresql.org/docs/current/sql-alterdatabase.html
    """
    for left in reversed(range(tries)):
        autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection, autocommit.connect() as second:
            try:
                _rename(connection, second, renames, lock_timeout, then)
            except DBAPIError as error:
                if left and sqlstate(error) == _OBJECT_IN_USE:
                    continue
                raise
            return


def _rename(
    connection: Connection,
    second: Connection,
    renames: list[tuple[str, str]],
    lock_timeout: float,
    then: Sequence[str],
) -> None:
    """Rename in one transaction on ``connection`` while ``second`` ends the sessions in the way."""

    def work() -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}")
        for old, new in renames:
            connection.exec_driver_sql(f"ALTER DATABASE {quote(old)} RENAME TO {quote(new)}")
        for statement in then:
            connection.exec_driver_sql(statement)
        connection.commit()

    future: Future[None] | None = None
    try:
        with in_background(connection, work) as future:
            while not future.done():
                terminate(second, [old for old, _ in renames])
                wait([future], 0.1)
    except BaseException:
        if future is None or future.exception() is not None:
            raise
        return  # it was committed before our cancel came
    future.result()
