"""The legacy core: compatible with what our revisions and imports need, whatever else it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollout import adopt, manifest, plan
from rollout.checks.registry import Area, Subject, check
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.catalog import Catalog

# What our revisions, checks and imports read or write. Anything else of the legacy core is only warned about.
NEEDED: dict[str, tuple[str, ...]] = {
    "tenants": ("id", "name", "tenant_code", "mode", "status"),
    "roles": ("id", "tenant_id", "name"),
    "users": (
        "id", "tenant_id", "username", "password_hash", "email", "phone_number", "status", "created_at", "updated_at",
        "last_login",
    ),
    "profiles": ("user_id", "full_name", "verification_status", "avatar_url"),
    "user_roles": ("user_id", "role_id"),
    "cases": ("id", "case_amount", "status", "assigned_to_user_id"),
}  # fmt: skip

NEEDED_LABELS = {
    "casestatus": {"COMPLETED"},
    "userstatus": {"PENDING", "ACTIVE", "INACTIVE", "BANNED"},
    "tenantmode": {"SAAS"},
    "tenantstatus": {"ACTIVE"},
    "verificationstatus": {"UNVERIFIED"},
}
"""Labels of enum types that our revisions and imports read or write."""

KEYS = (
    ("users", "tenant_id", "tenants", "id"),
    ("user_roles", "user_id", "users", "id"),
    ("user_roles", "role_id", "roles", "id"),
    ("profiles", "user_id", "users", "id"),
)
"""Foreign keys of the legacy core that rows of ours and imports count on: (table, column, other table, its column)."""

REFERENCED = ("users", "cases")
"""Tables whose ``id`` our foreign keys refer to."""


@check(Area.STRUCTURE)
def legacy_core_is_compatible(subject: Subject) -> Iterator[Finding]:
    """The legacy core has what we need: something missing or of another type is an error, more is a warning."""
    if adopt.LEGACY_MARK not in subject.catalog and subject.revision is None:
        yield from _half_a_legacy_core(subject.catalog)
        return
    expected = manifest.at([plan.history()[0].id], major=0)
    for key in expected.objects:
        kind, _, name = key.partition(" ")
        if kind == "table":
            yield from _table(name, subject.catalog)
        elif kind == "column":
            yield from _column(key, str(expected.objects[key]["type"]), subject.catalog)
        elif kind == "type":
            yield from _type(key, expected.objects[key]["labels"], subject.catalog)
    for table in REFERENCED:
        yield from _key(table, subject.catalog)
    yield from _more(subject.catalog, expected)


def _half_a_legacy_core(there: Catalog) -> Iterator[Finding]:
    """Refuse a database that has some of the legacy core, but no users: it is neither legacy nor empty."""
    found = [table for table in NEEDED if f"table {table}" in there]
    if found:
        yield Finding(
            "users",
            say("the legacy table users is missing, but there is {found}", found=", ".join(found)),
            say("Check that {key} names the right database.", key="DATABASE_URL"),
        )


def _table(table: str, there: Catalog) -> Iterator[Finding]:
    """Yield a legacy table that is missing."""
    if f"table {table}" not in there:
        yield Finding(
            table,
            say("the legacy table is missing"),
            say("Check that {key} names the right database.", key="DATABASE_URL"),
            ERROR if table in NEEDED else WARNING,
        )


def _column(key: str, expected: str, there: Catalog) -> Iterator[Finding]:
    """Yield a legacy column that is missing or has another type."""
    name = key.partition(" ")[2]
    table, _, column = name.partition(".")
    if f"table {table}" not in there:
        return
    needed = column in NEEDED.get(table, ())
    found = there.get(key)
    if found is None:
        yield Finding(
            name,
            say("the legacy column is missing (expected {type})", type=expected),
            say("ALTER TABLE {table} ADD COLUMN {column} {type};", table=table, column=column, type=expected),
            ERROR if needed else WARNING,
        )
    elif found["type"] != expected:
        # A longer or shorter text holds what we write; another type does not.
        families = {
            str(kind).partition("(")[0].replace("character varying", "text") for kind in (found["type"], expected)
        }
        same_family = len(families) == 1
        yield Finding(
            name,
            say("the legacy column has type {found}, expected {expected}", found=found["type"], expected=expected),
            say("This tool upgrades databases whose keys are uuid and whose columns are as docs/schema.md says."),
            ERROR if needed and not same_family else WARNING,
        )


def _type(key: str, expected: list[str], there: Catalog) -> Iterator[Finding]:
    """Yield a legacy enum type that is missing, or has other labels or another order of them."""
    name = key.partition(" ")[2]
    found = there.get(key, {}).get("labels")
    needed = NEEDED_LABELS.get(name, set())
    hint = say("Check that {key} names the right database.", key="DATABASE_URL")
    if found is None:
        yield Finding(name, say("the legacy type is missing"), hint, ERROR if needed else WARNING)
        return
    missing = [label for label in expected if label not in found]
    if missing:
        yield Finding(
            name,
            say("the legacy type lacks {labels}", labels=", ".join(missing)),
            " ".join(f"ALTER TYPE {name} ADD VALUE '{label}';" for label in missing),
            ERROR if needed & {*missing} else WARNING,
        )
    more = [label for label in found if label not in expected]
    if more:
        yield Finding(
            name,
            say("the legacy type has further labels: {labels}", labels=", ".join(more)),
            say("Keep them: nothing of ours minds."),
            WARNING,
        )
    if [label for label in found if label in expected] != [label for label in expected if label in found]:
        yield Finding(
            name,
            say("the labels stand in another order: {labels}", labels=", ".join(found)),
            say("Keep it: nothing of ours compares them by order."),
            WARNING,
        )


def _key(table: str, there: Catalog) -> Iterator[Finding]:
    """Yield a referenced table without a primary key or unique constraint on its id."""
    if f"table {table}" in there and not any(
        key.startswith(f"constraint {table}.") and found["type"] in {"p", "u"} and found.get("columns") == ["id"]
        for key, found in there.items()
        if key.startswith("constraint ")
    ):
        yield Finding(
            f"{table}.id",
            say("the legacy table has no primary key on id"),
            say("ALTER TABLE {table} ADD PRIMARY KEY (id);", table=table),
        )


def _more(there: Catalog, expected: manifest.Manifest) -> Iterator[Finding]:
    """Yield columns of legacy tables that a row of ours could not fill."""
    for key, found in there.items():
        if not key.startswith("column ") or key in expected:
            continue
        name = key.partition(" ")[2]
        table = name.partition(".")[0]
        filled = "default" in found or "identity" in found or "generated" in found
        if table in {"users", "profiles", "user_roles", "tenants"} and found.get("not_null") and not filled:
            yield Finding(
                name,
                say("a further column is NOT NULL and has no default: an import cannot fill it"),
                say("ALTER TABLE {table} ALTER COLUMN … SET DEFAULT …; before `tool pagtive import`.", table=table),
                WARNING,
            )
