"""The legacy core: less than we need is an error, less than there was a warning, more at most a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rollout.checks.legacy import NEEDED
from rollout.findings import ERROR, WARNING
from tests.rollout.damages import findings

if TYPE_CHECKING:
    from rollout.checks.registry import Subject

CHECK = "legacy_core_is_compatible"

LESS_THAN_NEEDED = {
    "cases": "DROP TABLE cases CASCADE",
    "users.email": "ALTER TABLE users DROP COLUMN email CASCADE",
    "users.last_login": "ALTER TABLE users RENAME COLUMN last_login TO seen",
    "tenants.name": "ALTER TABLE tenants ALTER COLUMN name TYPE integer USING 1",
    "users.id": "ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE",
    "userstatus": "ALTER TYPE userstatus RENAME VALUE 'ACTIVE' TO 'LIVE'",
    "casestatus": "ALTER TYPE casestatus RENAME VALUE 'COMPLETED' TO 'DONE'",
}

LESS_THAN_THERE_WAS = {
    "wallets": "DROP TABLE wallets",
    "cases.notes": "ALTER TABLE cases DROP COLUMN notes",
    "clients.success_rate": "ALTER TABLE clients ALTER COLUMN success_rate TYPE double precision",
    "tenants.tenant_code": "ALTER TABLE tenants ALTER COLUMN tenant_code TYPE varchar(99)",
    "profiles.avatar_url": "ALTER TABLE profiles ALTER COLUMN avatar_url TYPE text",
    "insurancestatus": "ALTER TYPE insurancestatus RENAME VALUE 'CLAIMED' TO 'OTHER'",
    "commissionstatus": "DROP TYPE commissionstatus CASCADE",
}

MORE = {
    "users.nickname": "ALTER TABLE users ADD COLUMN nickname text NOT NULL DEFAULT '';"
    "ALTER TABLE users ALTER COLUMN nickname DROP DEFAULT",
    "legalstatus": "ALTER TYPE legalstatus ADD VALUE 'UNKNOWN'",
    "tenantmode": "ALTER TYPE tenantmode RENAME VALUE 'SAAS' TO 'x'; ALTER TYPE tenantmode RENAME VALUE 'ON_PREMISE'"
    " TO 'SAAS'; ALTER TYPE tenantmode RENAME VALUE 'x' TO 'ON_PREMISE'",
}


@pytest.mark.parametrize(
    ("severity", "subject_name", "sql"),
    [
        *((ERROR, name, sql) for name, sql in LESS_THAN_NEEDED.items()),
        *((WARNING, name, sql) for name, sql in {**LESS_THAN_THERE_WAS, **MORE}.items()),
    ],
)
def test_a_difference_is_named(severity: str, subject_name: str, sql: str, subject: Subject) -> None:
    """The check is silent on the upgraded database, and names what is less or more, each as severe as it is."""
    assert findings(subject, CHECK) == []
    subject.connection.exec_driver_sql(sql)
    found = findings(subject, CHECK)
    assert (subject_name, severity) in [(one.subject, one.severity) for one in found]
    assert severity == ERROR or all(one.severity == WARNING for one in found)
    assert all(one.hint for one in found)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE users ADD COLUMN nickname text",
        "ALTER TABLE users ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE cases ADD COLUMN more text NOT NULL DEFAULT 'x'",
        "CREATE INDEX their_index ON users (last_login); CREATE TABLE theirs (user_id uuid REFERENCES users)",
        "ALTER TABLE users ADD CONSTRAINT theirs CHECK (username <> '')",
        "ALTER TABLE users RENAME CONSTRAINT users_pkey TO pk_of_users",
        "DROP INDEX ix_users_phone_number",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "GRANT ALL ON clients TO PUBLIC; COMMENT ON TABLE users IS 'theirs'",
    ],
)
def test_what_others_do_with_their_tables_is_theirs(sql: str, subject: Subject) -> None:
    """More than we need, under other names, is no finding."""
    subject.connection.exec_driver_sql(sql)
    assert findings(subject, CHECK) == []


def test_what_we_need_is_part_of_the_core(subject: Subject) -> None:
    """Every column of the list is in the baseline: a mistyped one would switch itself off."""
    needed = {f"column {table}.{column}" for table, columns in NEEDED.items() for column in columns}
    assert {key for key in needed if subject.manifest.made_by.get(key) != subject.baseline} == set()
