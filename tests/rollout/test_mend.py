"""What differs from ours is refused with the statements that mend it; typed as they stand, they do."""

from __future__ import annotations

import pytest
from alembic import command

from rollout import plan
from rollout.mending import _is_wider
from tests.fixtures.databases import execute, url_of
from tests.fixtures.legacy import attempt, picture


def refused(server, settings_for):
    """Return what preflight finds to differ."""
    run = attempt(settings_for(server))
    assert (run.exit_code, run.database) == (6, "untouched"), run.error
    return [one for one in run.findings if one.check == "what_is_there_is_identical"]


def test_the_statements_mend_what_differs(legacy, settings_for, monkeypatch):
    """One of each kind: all hints typed in turn, the upgrade goes through; what would lose has no statement."""
    monkeypatch.setenv("DATABASE_URL", url_of(legacy))
    command.upgrade(plan.alembic_config(), "head")
    execute(
        legacy,
        "DROP SCHEMA rollout CASCADE",
        "DROP TABLE lawsker_schema_version",
        "ALTER TABLE users ALTER account_type DROP DEFAULT, ALTER registration_source DROP NOT NULL",
        "ALTER TABLE users DROP CONSTRAINT ck_users_account_type",
        "ALTER TABLE users ADD CONSTRAINT ck_users_account_type CHECK (account_type <> '')",
        "ALTER TABLE user_credits ALTER credits_weekly TYPE smallint",
        "ALTER TABLE lawyer_levels DROP COLUMN benefits",
        "DROP INDEX ix_users_account_type; CREATE INDEX ix_users_account_type ON users (account_type, username)",
        "ALTER TABLE users ALTER workspace_id TYPE varchar(60)",
    )
    before = picture(legacy)
    found = refused(legacy, settings_for)
    assert before.differences(picture(legacy)) == []
    hints = {one.subject: one.hint for one in found}
    assert "ALTER TABLE" not in hints["users.workspace_id"], "narrowing a type could lose values"
    for subject, hint in hints.items():
        if subject != "users.workspace_id":
            execute(legacy, hint[hint.index(": ") + 2 :])
    left = refused(legacy, settings_for)
    assert [one.subject for one in left] == ["users.workspace_id"]
    execute(legacy, "ALTER TABLE users ALTER workspace_id TYPE varchar(50)")
    run = attempt(settings_for(legacy))
    assert (run.exit_code, run.error) == (0, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "wider"),
    [("bigint", "integer", True), ("integer", "bigint", False),
     ("character varying(50)", "character varying(60)", False),
     ("character varying(50)", "character varying(5)", True), ("text", "uuid", False)],
)  # fmt: skip
def test_only_wider_types_are_offered(ours, theirs, wider):
    """A type is changed only where every value fits."""
    assert _is_wider(ours, theirs) is wider
