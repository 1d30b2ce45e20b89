"""What a copy of a database needs of a server and of whoever restores it, and what of that is not there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout import roles
from rollout.database import identifier, server_major
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

_SQL = Path(__file__).parent / "sql" / "needs.sql"
_TRUSTED_SINCE = 13
_SHOWN = 5

Obstacle = tuple[str, str]
"""What is in the way, and what to type."""


@dataclass(frozen=True)
class Needs:
    """What a copy of a database needs; ``bytes``: its size with indexes; ``superuser``: what only one can make."""

    bytes: int = 0
    extensions: tuple[dict[str, str], ...] = ()
    collations: tuple[str, ...] = ()
    tablespaces: tuple[str, ...] = ()
    superuser: tuple[str, ...] = ()
    roles: roles.Needed = field(default_factory=roles.Needed)

    @classmethod
    def of(cls, connection: Connection) -> Needs:
        """Return what a copy of the connected database needs."""
        found = connection.exec_driver_sql(_SQL.read_text(encoding="utf-8")).scalar_one()
        return cls.from_json({**found, "roles": roles.needed(connection).as_json()})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Needs:
        """Return what ``as_json`` wrote."""
        lists = {name: tuple(values[name] or ()) for name in ("extensions", "collations", "tablespaces", "superuser")}
        return cls(bytes=int(values["bytes"]), roles=roles.Needed.from_json(values["roles"]), **lists)

    def as_json(self) -> dict[str, Any]:
        """Return the values for the manifest."""
        return asdict(self)


def obstacles(admin: Connection, needs: Needs) -> Iterator[Obstacle]:
    """Yield what keeps us from making a copy on this server, each with what to type."""
    role, superuser, may_create = admin.execute(
        text("SELECT rolname::text, rolsuper, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
    ).one()
    if not may_create:
        yield (
            say("{role} may not create databases, and a restore never overwrites one", role=role),
            say("As a superuser: {statement}", statement=f"ALTER ROLE {identifier(role)} CREATEDB;"),
        )
    yield from _missing(admin, needs)
    if not superuser:
        yield from _of_superusers(admin, needs, role)


def _missing(admin: Connection, needs: Needs) -> Iterator[Obstacle]:
    """Yield roles, extensions, collations and tablespaces that the server has not."""
    there = roles.existing(admin)
    for one in needs.roles.roles:
        if one.name not in there:
            statement = f"CREATE ROLE {identifier(one.name)};"
            yield say("the role {role} does not exist on this server", role=one.name), statement
    available = set(admin.execute(text("SELECT name::text FROM pg_available_extensions")).scalars())
    for extension in needs.extensions:
        if extension["name"] not in available:
            yield (
                say("the extension {name} is not installed on this server", name=extension["name"]),
                say("Install the server package that brings {name}.", name=extension["name"]),
            )
    known = set(admin.execute(text("SELECT collname::text FROM pg_collation")).scalars())
    for collation in needs.collations:
        if collation not in known:
            yield (
                say("the collation {name} does not exist on this server", name=collation),
                say("Use a server whose system has the locale of {name}.", name=collation),
            )


def _of_superusers(admin: Connection, needs: Needs, role: str) -> Iterator[Obstacle]:
    """Yield what a role that is no superuser cannot make."""
    for owner in roles.owners_we_are_not(admin, needs.roles):
        statement = f"GRANT {identifier(owner)} TO {identifier(role)};"
        yield say("{role} cannot give {owner} what belongs to it", role=role, owner=owner), statement
    trusted = "NOT superuser OR trusted" if server_major(admin) >= _TRUSTED_SINCE else "NOT superuser"
    allowed = set(
        admin.execute(text(f"SELECT name::text FROM pg_available_extension_versions WHERE {trusted}")).scalars()
    )
    forbidden = [f"extension {one['name']}" for one in needs.extensions if one["name"] not in {*allowed, "plpgsql"}]
    only = [*forbidden, *needs.superuser]
    if only:
        yield (
            say(
                "only a superuser can restore {objects}",
                objects=", ".join([*only[:_SHOWN], *["…"][: len(only) - _SHOWN]]),
            ),
            say("Restore as a superuser; a proof can run elsewhere (--on embedded)."),
        )


def tablespace_options(admin: Connection, needs: Needs) -> list[str]:
    """Return what to tell pg_restore where the server has not all tablespaces: the default one takes everything."""
    there = set(admin.execute(text("SELECT spcname::text FROM pg_tablespace")).scalars())
    return [] if there.issuperset(needs.tablespaces) else ["--no-tablespaces"]
