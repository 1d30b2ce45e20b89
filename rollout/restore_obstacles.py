"""What would keep a database from being renamed, or stays with it: found before hours are spent on a restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import databases
from rollout.database import identifier
from rollout.errors import RestoreFailed
from rollout.messages import say

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SHOWN = 5


def require_renameable(admin: Connection, dbname: str) -> None:
    """Raise ``RestoreFailed`` where ``dbname`` is not ours to rename, or something that nobody can end is in it."""
    if not databases.exists(admin, dbname):
        return
    owner = databases.owner_we_are_not(admin, dbname)
    if owner is not None:
        raise RestoreFailed(
            say("only a member of {owner}, the owner of {name}, may rename it", name=dbname, owner=owner),
            hint=say("Run this as {owner}, or as a superuser.", owner=owner),
        )
    _require_nothing_prepared(admin, dbname)
    _require_no_subscription_at_work(admin, dbname)


def _require_nothing_prepared(admin: Connection, dbname: str) -> None:
    """Refuse where a prepared transaction holds the database."""
    names = prepared(admin, dbname)
    if names:
        literal = "'" + names[0].replace("'", "''") + "'"
        raise RestoreFailed(
            say("{count} prepared transactions in {name} keep it from being renamed: {names}",
                count=len(names), name=dbname, names=", ".join(names[:_SHOWN])),
            hint=say("In {name}: COMMIT PREPARED {first}; or ROLLBACK PREPARED {first}; then run this again.",
                     name=dbname, first=literal),
        )  # fmt: skip


def _require_no_subscription_at_work(admin: Connection, dbname: str) -> None:
    """Refuse where a subscription's worker is in the database: it comes back whenever its session is ended."""
    names = subscriptions(admin, dbname, enabled=True)
    if names:
        raise RestoreFailed(
            say("{count} enabled subscriptions of {name} keep it from being renamed: {names}",
                count=len(names), name=dbname, names=", ".join(names[:_SHOWN])),
            hint=say("In {name}: {statements} then run this again.", name=dbname,
                     statements=" ".join(f"ALTER SUBSCRIPTION {identifier(one)} DISABLE;" for one in names)),
        )  # fmt: skip


def prepared(admin: Connection, dbname: str) -> list[str]:
    """Return the names of the prepared transactions in a database: nobody can rename it while there is one."""
    named = text("SELECT gid FROM pg_prepared_xacts WHERE database = :name ORDER BY prepared, gid")
    return list(admin.execute(named, {"name": dbname}).scalars())


def slots(admin: Connection, dbname: str) -> list[str]:
    """Return the names of a database's logical replication slots: they stay with it, whatever it is called."""
    named = text("SELECT slot_name::text FROM pg_replication_slots WHERE database = :name ORDER BY 1")
    return list(admin.execute(named, {"name": dbname}).scalars())


def subscriptions(admin: Connection, dbname: str, *, enabled: bool = False) -> list[str]:
    """Return the names of a database's subscriptions: no backup holds them, they stay with it; or the enabled ones."""
    named = text(
        "SELECT subname::text FROM pg_subscription JOIN pg_database d ON d.oid = subdbid"
        " WHERE d.datname = :name AND (subenabled OR NOT :enabled) ORDER BY 1"
    )
    return list(admin.execute(named, {"name": dbname, "enabled": enabled}).scalars())
