"""Where the databases are and where our files go: the only module that reads the environment.

Connection URLs are parsed by libpq itself, so that percent-encoded passwords, Unix sockets, several hosts and every
``sslmode`` mean what they mean everywhere else
(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.extensions

from rollout.errors import ConfigurationError
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT = Path(__file__).resolve().parent.parent
"""Where cli.py, alembic.ini and alembic/ are (the project is installed editable)."""

TARGET_KEY = "DATABASE_URL"
SOURCE_KEY = "SOURCE_DATABASE_URL"

# libpq parameter → its environment variable, for the client tools: a password must not stand in an argument list.
# https://www.postgresql.org/docs/current/libpq-envars.html
_LIBPQ_VARIABLES = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER",
    "password": "PGPASSWORD", "passfile": "PGPASSFILE", "service": "PGSERVICE", "options": "PGOPTIONS",
    "application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT", "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslcrl": "PGSSLCRL",
    "sslsni": "PGSSLSNI", "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME", "channel_binding": "PGCHANNELBINDING", "requirepeer": "PGREQUIREPEER",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}  # fmt: skip


@dataclass(frozen=True)
class Server:
    """How to reach one database: libpq parameters, and the key of the setting they came from."""

    key: str
    parameters: Mapping[str, str] = field(repr=False)

    @classmethod
    def from_url(cls, key: str, url: str) -> Server:
        """Parse a URL (``postgresql://``, ``postgres://`` or ``postgresql+driver://``).

        Raises ``ConfigurationError``, which names the key and never quotes the URL: a password may stand in it.
        """
        url = url.strip()
        match = re.match(r"(postgres(?:ql)?)(\+[a-z0-9_]+)?://", url)
        if not match:
            raise ConfigurationError(
                say("{key} is not a PostgreSQL URL", key=key),
                hint=say("Write it as {key}=postgresql://user@host:5432/database", key=key),
            )
        url = "postgresql://" + url[match.end() :]
        if match[2] == "+asyncpg":
            url = re.sub(r"([?&])ssl=", r"\1sslmode=", url)
        try:
            parameters = psycopg2.extensions.parse_dsn(url)
        except psycopg2.ProgrammingError as error:
            # libpq quotes the part it stumbled over; only the name of a parameter is safe to repeat.
            named = re.search(r'invalid URI query parameter: "([a-z_]+)"', str(error))
            problem = say("unknown parameter {name}", name=named[1]) if named else say("libpq cannot parse it")
            raise ConfigurationError(
                say("{key} is not a valid PostgreSQL URL: {problem}", key=key, problem=problem),
                hint=say("Percent-encode special characters in the password (@ is %40, / is %2F, # is %23)."),
            ) from None
        return cls(key, parameters)

    @property
    def database(self) -> str:
        """The database's name as configured ('' where libpq's own default decides)."""
        return self.parameters.get("dbname", "")

    def to_database(self, name: str) -> Server:
        """Return the same server with another database."""
        return replace(self, parameters={**self.parameters, "dbname": name})

    def environment(self) -> dict[str, str]:
        """Return libpq's environment variables for these parameters (for pg_dump, pg_restore, psql)."""
        return {_LIBPQ_VARIABLES[k]: v for k, v in self.parameters.items() if k in _LIBPQ_VARIABLES}


@dataclass(frozen=True)
class Settings:
    """Everything a run needs to know from outside. ``lock_timeout`` and ``statement_timeout`` in seconds, 0 = none."""

    target: Server
    source: Server | None
    directory: Path
    lock_timeout: float = 10.0
    statement_timeout: float = 0.0
    notify_urls: tuple[str, ...] = field(default=(), repr=False)
    chinese: bool = False

    @property
    def backups(self) -> Path:
        """Where backups are kept."""
        return self.directory / "backups"

    @property
    def reports(self) -> Path:
        """Where reports are kept."""
        return self.directory / "reports"


def _environment() -> dict[str, str]:
    """Return the process's environment over the ``.env`` file of the working directory."""
    values: dict[str, str] = {}
    path = Path(".env")
    if path.is_file():
        try:
            content = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else say("not UTF-8")
            raise ConfigurationError(
                say("{path} cannot be read: {reason}", path=path, reason=reason),
                hint=say("Save it as UTF-8, readable for us."),
            ) from error
        for number, line in enumerate(content.splitlines(), start=1):
            text = line.strip().removeprefix("export ")
            if not text or text.startswith("#"):
                continue
            name, equals, value = text.partition("=")
            if not equals:
                raise ConfigurationError(
                    say("line {number} of .env is not NAME=value", number=number), hint=say("Mend or remove that line.")
                )
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            values[name.strip()] = value
    return {**values, **os.environ}


def process_environment() -> dict[str, str]:
    """Return a copy of our own environment: what client programs inherit (HOME for ~/.pgpass, libpq's variables)."""
    return dict(os.environ)


def _seconds(environment: Mapping[str, str], key: str, default: float) -> float:
    """Return a number of seconds from the environment."""
    text = environment.get(key, "").strip()
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400 * 7:
        raise ConfigurationError(
            say("{key} is not a number of seconds", key=key), hint=say("For example {key}=10", key=key)
        )
    return seconds


def speaks_chinese(environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether operators read Chinese here: ``ROLLOUT_LANGUAGE`` (zh, en), else the locale."""
    environment = os.environ if environment is None else environment
    for key in ("ROLLOUT_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(key):
            return environment[key].lower().startswith("zh")
    return False


def _server(environment: Mapping[str, str], key: str) -> Server | None:
    """Return the server of ``key``, or None where it is not set."""
    url = environment.get(key, "")
    return Server.from_url(key, url) if url.strip() else None


def rollout_directory() -> Path:
    """Return ``ROLLOUT_DIR`` (default ``./var``): all that commands without a database need."""
    return Path(_environment().get("ROLLOUT_DIR") or "var").resolve()


def load(*, source_override: Mapping[str, str] | None = None) -> Settings:
    """Read the environment and ``.env``; raise ``ConfigurationError`` with the key that is missing or wrong.

    Without ``DATABASE_URL``, libpq's own variables decide where ``PGDATABASE`` or ``PGSERVICE`` is set.
    ``source_override`` holds libpq parameters of the source that stand above ``SOURCE_DATABASE_URL``.
    """
    environment = _environment()
    target = _server(environment, TARGET_KEY)
    if target is None and (environment.get("PGDATABASE") or environment.get("PGSERVICE")):
        inherited = {k: environment[v] for k, v in _LIBPQ_VARIABLES.items() if environment.get(v)}
        target = Server("PGDATABASE", inherited)
    if target is None:
        raise ConfigurationError(
            say("{key} is not set", key=TARGET_KEY),
            hint=say("Set {key}=postgresql://user@host:5432/database in the environment or in .env", key=TARGET_KEY),
        )
    source = _server(environment, SOURCE_KEY)
    if source_override:
        parameters = dict(source.parameters) if source else {}
        source = Server(SOURCE_KEY, {**parameters, **source_override})
    return Settings(
        target=target,
        source=source,
        directory=Path(environment.get("ROLLOUT_DIR") or "var").resolve(),
        lock_timeout=_seconds(environment, "ROLLOUT_LOCK_TIMEOUT", 10.0),
        statement_timeout=_seconds(environment, "ROLLOUT_STATEMENT_TIMEOUT", 0.0),
        notify_urls=tuple(environment.get("ROLLOUT_NOTIFY", "").split()),
        chinese=speaks_chinese(environment),
    )
