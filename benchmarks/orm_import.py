"""The row-by-row import that ours is compared with: one object at a time through SQLAlchemy's ORM, as scripts do.

It does less than ``tool pagtive import``: no quarantine, no map of users, no proof. A user is looked up by e-mail, a
row by its key; what is there is overwritten; a row that does not fit is skipped, which takes a savepoint for each; a
commit every hundred rows. Reads ``SOURCE_DATABASE_URL`` and ``DATABASE_URL``.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import MetaData, Table, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session

from models import Base
from rollout.database import engine_for
from rollout.settings import load

ZONE = ZoneInfo("Asia/Shanghai")
COMMIT_EVERY = 100
TABLES = {
    "projects": "pagtive_projects",
    "project_details": "pagtive_project_details",
    "llmlog": "pagtive_llm_logs",
    "invitation_codes": "pagtive_invitation_codes",
}
KEYS = {"project_details": (("project_id", "project_id"), ("page_id", "page_id"))}
RENAMED = {"versionId": "version_id", "used_by_user_id": "used_by_user_id"}
STATUS = {0: "INACTIVE", 1: "ACTIVE", 2: "BANNED"}


class _Source(DeclarativeBase):
    """Base of the classes that the source's tables get."""


def main() -> None:
    """Import everything, table after table."""
    settings = load()
    assert settings.source is not None
    there, here = engine_for(settings.source), engine_for(settings.target)
    classes = {mapper.class_.__tablename__: mapper.class_ for mapper in Base.registry.mappers}
    with Session(there) as source, Session(here) as target:
        users = _import_users(source, target, classes)
        for name, table in TABLES.items():
            _import_rows(source, target, name, classes[table], users)


def _class(source: Session, name: str) -> Any:
    """Make a class for a table of the source; one without a primary key gets the one it should have."""
    table = Table(name, MetaData(), autoload_with=source.get_bind())
    keys = [table.c[key] for key, _ in KEYS.get(name, ())] or list(table.primary_key)
    return type(name, (_Source,), {"__table__": table, "__mapper_args__": {"primary_key": keys}})


def _objects(source: Session, name: str) -> Any:
    """Yield a table's rows as objects."""
    return source.scalars(select(_class(source, name)).execution_options(yield_per=COMMIT_EVERY))


def _aware(value: Any) -> Any:
    """Give a naive time its zone."""
    return value.replace(tzinfo=ZONE) if hasattr(value, "hour") and value.tzinfo is None else value


def _import_users(source: Session, target: Session, classes: dict[str, Any]) -> dict[Any, Any]:
    """Import users; return source id → target id."""
    tenant_class = classes["tenants"]
    tenant = target.scalars(select(tenant_class).where(tenant_class.tenant_code == "pagtive")).first()
    if tenant is None:
        tenant = tenant_class(id=uuid4(), name="pagtive", tenant_code="pagtive", mode="SAAS", status="ACTIVE")
        target.add(tenant)
        target.flush()
    known: dict[Any, Any] = {}
    for number, row in enumerate(_objects(source, "users"), 1):
        with suppress(DBAPIError), target.begin_nested():
            known[row.id] = _import_user(target, classes, tenant, row)
        if number % COMMIT_EVERY == 0:
            target.commit()
    target.commit()
    return known


def _import_user(target: Session, classes: dict[str, Any], tenant: Any, row: Any) -> Any:
    """Look one user up by e-mail, or add it with a profile and an account; return its id."""
    user_class = classes["users"]
    email = (row.email or "").strip() or None
    user = target.scalars(select(user_class).where(user_class.email == email)).first() if email else None
    if user is not None:
        return user.id
    user = user_class(
        id=row.id,
        tenant_id=tenant.id,
        username=f"{row.username or 'user'}-{row.id}",
        password_hash="!" + secrets.token_urlsafe(24),
        email=email,
        status=STATUS.get(row.status, "ACTIVE"),
        created_at=_aware(row.created_at),
        updated_at=_aware(row.updated_at),
    )
    target.add(user)
    target.flush()
    target.add(classes["profiles"](user_id=user.id, full_name=row.name, verification_status="UNVERIFIED"))
    if email:
        account = {"type": "email", "provider": "email", "is_primary": True, "is_verified": True}
        target.add(classes["user_accounts"](user_id=user.id, provider_account_id=email, **account))
    return user.id


def _import_rows(source: Session, target: Session, name: str, row_class: Any, users: dict[Any, Any]) -> None:
    """Import one table, row by row."""
    for number, row in enumerate(_objects(source, name), 1):
        with suppress(DBAPIError), target.begin_nested():
            _import_row(target, name, row_class, row, users)
        if number % COMMIT_EVERY == 0:
            target.commit()
            target.expunge_all()
    target.commit()
    source.rollback()


def _import_row(target: Session, name: str, row_class: Any, row: Any, users: dict[Any, Any]) -> None:
    """Look one row up by its key, then change it or add it."""
    columns = set(row_class.__table__.c.keys())
    projects = next(m.class_ for m in Base.registry.mappers if m.class_.__tablename__ == "pagtive_projects")
    values = {RENAMED.get(key, key): _aware(value) for key, value in vars(row).items() if not key.startswith("_")}
    values = {key: value for key, value in values.items() if key in columns and value is not None}
    for key in ("user_id", "used_by_user_id"):
        if key in values:
            values[key] = users.get(values[key])
    if "project_id" in values and target.get(projects, values["project_id"]) is None:
        del values["project_id"]
    same = [getattr(row_class, column) == getattr(row, key) for key, column in KEYS.get(name, (("id", "id"),))]
    found = target.scalars(select(row_class).where(*same)).first()
    if found is None:
        target.add(row_class(**values))
    else:
        for key, value in values.items():
            setattr(found, key, value)
    target.flush()


if __name__ == "__main__":
    main()
