"""The roles that a database needs, and their memberships: they belong to the server, and are in no dump."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from rollout.database import quote, server_major

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

_SQL = Path(__file__).parent / "sql" / "needed_roles.sql"
_OPTIONS_SINCE = 16


@dataclass(frozen=True)
class Role:
    """A role that owns something in a database (``owns``), or may use something there."""

    name: str
    owns: bool = False


@dataclass(frozen=True)
class Membership:
    """That ``member`` has the rights of ``role``; ``inherit`` and ``set`` are what 16 and newer know of it."""

    role: str
    member: str
    admin: bool = False
    inherit: bool = True
    set: bool = True

    def statement(self, major: int) -> str:
        """Return the GRANT for a server of this major version, percent signs doubled for the driver."""
        said = f"GRANT {quote(self.role)} TO {quote(self.member)}"
        if major < _OPTIONS_SINCE:
            return said + (" WITH ADMIN OPTION" if self.admin else "")
        options = {"ADMIN": self.admin, "INHERIT": self.inherit, "SET": self.set}
        return f"{said} WITH {', '.join(f'{name} {value}'.upper() for name, value in options.items())}"


@dataclass(frozen=True)
class Needed:
    """What a restore of a database needs of its server's roles."""

    roles: tuple[Role, ...] = ()
    memberships: tuple[Membership, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the values for the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Needed:
        """Return what ``as_json`` wrote, or sql/needed_roles.sql found."""
        return cls(
            tuple(Role(**one) for one in values["roles"] or ()),
            tuple(Membership(**one) for one in values["memberships"] or ()),
        )


def needed(connection: Connection) -> Needed:
    """Return the roles and memberships that the connected database needs."""
    return Needed.from_json(connection.exec_driver_sql(_SQL.read_text(encoding="utf-8")).scalar_one())


def existing(admin: Connection) -> set[str]:
    """Return the names of the server's roles."""
    return set(admin.execute(text("SELECT rolname::text FROM pg_roles")).scalars())


def missing_memberships(admin: Connection, wanted: Needed) -> list[Membership]:
    """Return the memberships that are not there; options that differ are not looked at."""
    rows = admin.execute(
        text(
            "SELECT g.rolname::text, u.rolname::text FROM pg_auth_members m"
            " JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member"
        )
    )
    there = {(row[0], row[1]) for row in rows}
    return [one for one in wanted.memberships if (one.role, one.member) not in there]


def may_grant(admin: Connection, membership: Membership) -> bool:
    """Tell whether both roles are there and we may grant this membership."""
    row = admin.execute(
        text(
            "SELECT r.rolsuper OR pg_has_role(g.oid, 'MEMBER WITH ADMIN OPTION')"
            " FROM pg_roles r, pg_roles g, pg_roles u"
            " WHERE r.rolname = current_user AND g.rolname = :role AND u.rolname = :member"
        ),
        {"role": membership.role, "member": membership.member},
    ).one_or_none()
    return bool(row and row[0])


def owners_we_are_not(admin: Connection, wanted: Needed) -> list[str]:
    """Return the owners whose rights we do not have: nobody else may give them what a restore makes."""
    named = [role.name for role in wanted.roles if role.owns]
    right = "SET" if server_major(admin) >= _OPTIONS_SINCE else "MEMBER"
    rows = admin.execute(
        text("SELECT rolname::text FROM pg_roles WHERE rolname = ANY(:names) AND NOT pg_has_role(oid, :right)"),
        {"names": named, "right": right},
    )
    return sorted(rows.scalars())


def make(admin: Connection, wanted: Needed) -> None:
    """Make the roles and memberships on a server of our own; nobody can log in as them."""
    major = server_major(admin)
    there = existing(admin)
    named = [role.name for role in wanted.roles]
    named += [name for one in wanted.memberships for name in (one.role, one.member)]
    for name in dict.fromkeys(named):
        if name not in there and not name.startswith("pg_"):
            admin.exec_driver_sql(f"CREATE ROLE {quote(name)} NOLOGIN")
    there = existing(admin)
    for one in missing_memberships(admin, wanted):
        if one.role in there:  # a predefined one may be unknown here
            admin.exec_driver_sql(one.statement(major))


def grants(admin: Connection, wanted: Iterable[Membership]) -> list[str]:
    """Return the statements that grant these memberships on this server."""
    major = server_major(admin)
    return [one.statement(major) for one in wanted]
