"""What stands around rows that are not ours, and catalogs that somebody edited: each damage is named, alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rollout import verify
from rollout.checks.registry import Area
from rollout.database import VERSION_TABLE, server_major
from rollout.findings import ERROR, WARNING
from rollout.messages import in_chinese
from tests.fixtures.tiers import tried_once

if TYPE_CHECKING:
    from rollout.checks.registry import Subject
    from rollout.findings import Finding

NOTHING = (
    "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
    "CREATE TRIGGER t BEFORE UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION nothing()"
)
ROLE = "lawsker_guards"  # made in the test's transaction, and gone with it
SHUT_OUT = f"CREATE ROLE {ROLE}; GRANT SELECT ON user_credits TO {ROLE}; REVOKE USAGE ON SCHEMA public FROM PUBLIC"
NO_KEY = f"ALTER TABLE {VERSION_TABLE} DROP CONSTRAINT {VERSION_TABLE}_pkc"

MENDED = {
    f"ALTER TABLE {VERSION_TABLE} SET UNLOGGED": (VERSION_TABLE, ERROR),
    f"ALTER TABLE {VERSION_TABLE} ENABLE ROW LEVEL SECURITY": (VERSION_TABLE, ERROR),
    f"CREATE RULE r AS ON UPDATE TO {VERSION_TABLE} DO INSTEAD NOTHING": (VERSION_TABLE, ERROR),
    NOTHING.format(VERSION_TABLE): (VERSION_TABLE, ERROR),
    f"ALTER TABLE {VERSION_TABLE} ADD COLUMN more integer": (VERSION_TABLE, ERROR),
    f"{NO_KEY}; ALTER TABLE {VERSION_TABLE} ALTER version_num TYPE varchar(31); ALTER TABLE {VERSION_TABLE}"
    " ADD PRIMARY KEY (version_num)": (VERSION_TABLE, ERROR),
    NO_KEY: (VERSION_TABLE, WARNING),
    f"GRANT INSERT ON {VERSION_TABLE} TO PUBLIC": (VERSION_TABLE, WARNING),
    "DROP INDEX ix_users_email": ("users.email", WARNING),
    "DROP INDEX ix_users_email; CREATE INDEX ix_users_email ON users (email)": ("users.email", WARNING),
    "DROP INDEX ix_users_email; CREATE UNIQUE INDEX ix_users_email ON users (email) WHERE false": (
        "users.email",
        WARNING,
    ),
    "DROP INDEX ix_users_username": ("users.username", WARNING),
    "ALTER TABLE profiles DROP CONSTRAINT profiles_pkey": ("profiles.user_id", WARNING),
    "ALTER TABLE users ALTER COLUMN password_hash DROP NOT NULL": ("users.password_hash", WARNING),
    "ALTER TABLE user_roles SET UNLOGGED": ("user_roles", WARNING),
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY": ("users", WARNING),
    "ALTER TABLE user_roles DROP CONSTRAINT user_roles_role_id_fkey": ("user_roles.role_id", WARNING),
    "ALTER TABLE profiles DISABLE TRIGGER ALL": ("profiles.user_id", WARNING),
    "GRANT UPDATE (password_hash) ON users TO PUBLIC": ("users", WARNING),
    "REVOKE INSERT, SELECT ON user_credits FROM CURRENT_USER": ("user_credits", WARNING),
    "REVOKE USAGE, UPDATE ON SEQUENCE lawyer_levels_id_seq FROM CURRENT_USER": ("lawyer_levels_id_seq", WARNING),
    "REVOKE SELECT ON users FROM CURRENT_USER": ("users", WARNING),
    "ALTER TABLE users ALTER COLUMN workspace_id SET COMPRESSION pglz": ("users.workspace_id", WARNING),
    "CREATE TYPE t AS (user_id uuid, workspace_id varchar(50), workspace_type varchar(20), is_demo boolean,"
    " created_at timestamptz); ALTER TABLE workspace_mappings OF t": ("workspace_mappings", ERROR),
    "ALTER TABLE user_credits ALTER COLUMN user_id SET STATISTICS 0": ("user_credits.user_id", WARNING),
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON users USING (false)": ("users", WARNING),
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON users USING (true);"
    " CREATE POLICY q ON users AS RESTRICTIVE FOR SELECT USING (false)": ("users", WARNING),
    f"CREATE ROLE {ROLE}; ALTER TABLE {VERSION_TABLE} OWNER TO {ROLE}": (VERSION_TABLE, WARNING),
    f"CREATE ROLE {ROLE}; ALTER TABLE rollout.preexisting_objects OWNER TO {ROLE}": (
        "rollout.preexisting_objects",
        WARNING,
    ),
    SHUT_OUT: ("schema public", WARNING),
    "ALTER TABLE user_credits CLUSTER ON pk_user_credits": ("user_credits.pk_user_credits", WARNING),
    "ALTER TABLE user_credits CLUSTER ON ix_user_credits_last_reset_date": (
        "ix_user_credits_last_reset_date",
        WARNING,
    ),
    "UPDATE user_credits SET last_reset_date = current_date + 2": ("user_credits.last_reset_date", WARNING),
}
"""Damages whose hint, typed as it stands, mends them."""

EDITED = {
    "UPDATE users SET status = 'INACTIVE'": ("users.status", WARNING),
    "CREATE RULE r AS ON INSERT TO users DO INSTEAD NOTHING": ("r on users", WARNING),
    "ALTER TABLE ai_tool_usage ALTER COLUMN input_data SET STORAGE PLAIN": ("ai_tool_usage.input_data", WARNING),
    "ALTER TABLE user_credits ALTER COLUMN user_id SET (n_distinct = 1)": ("user_credits.user_id", WARNING),
    "UPDATE pg_class SET relhastriggers = false WHERE relname = 'user_credits'": ("user_credits", ERROR),
    "UPDATE pg_class SET relchecks = 0 WHERE relname = 'user_credits'": ("user_credits", ERROR),
    "UPDATE pg_attribute SET attcollation = 0 WHERE attname = 'reasoning'": (
        "case_invitations.reasoning",
        ERROR,
    ),
    "UPDATE pg_class SET relhastriggers = false WHERE relname = 'users'": ("users", ERROR),
    "UPDATE pg_class SET relchecks = 0 WHERE relname = 'users'": ("users", ERROR),
    "UPDATE pg_attribute SET atthasdef = false WHERE attrelid = 'user_credits'::regclass AND attname = 'created_at'": (
        "user_credits.created_at",
        ERROR,
    ),
    "UPDATE pg_index SET indisprimary = false WHERE indexrelid = 'pk_user_credits'::regclass": (
        "user_credits.pk_user_credits",
        ERROR,
    ),
    "UPDATE pg_trigger SET tgdeferrable = true, tginitdeferred = true WHERE tgconstraint ="
    " (SELECT oid FROM pg_constraint WHERE conrelid = 'user_credits'::regclass AND contype = 'f')": (
        "user_credits.fk_user_credits_user_id_users",
        ERROR,
    ),
}


def _may_be_done(sql: str, subject: Subject) -> None:
    """Skip what the server does not know yet."""
    if "SET COMPRESSION" in sql and server_major(subject.connection) < 14:
        pytest.skip("from PostgreSQL 14 on")


def _found(subject: Subject) -> list[Finding]:
    """Run all checks but those of speed (an index that is gone is slow too) on the database as it is now."""
    return verify.run_areas(replace(subject), [one for one in verify.VERIFIED if one is not Area.PERFORMANCE]).findings


@pytest.mark.parametrize("sql", tried_once([*EDITED, *MENDED], keep=10))
def test_a_damage_is_named(sql: str, subject: Subject) -> None:
    """Verify names the damaged object, as severely as it must, and nothing else."""
    _may_be_done(sql, subject)
    assert _found(subject) == []
    subject.connection.exec_driver_sql(sql)
    assert {(one.subject, one.severity) for one in _found(subject)} == {{**MENDED, **EDITED}[sql]}


@pytest.mark.parametrize("sql", tried_once(MENDED, keep=4))
def test_the_hint_mends_it(sql: str, subject: Subject) -> None:
    """What the finding says to type makes it go away."""
    _may_be_done(sql, subject)
    subject.connection.exec_driver_sql(sql)
    (found,) = _found(subject)
    subject.connection.exec_driver_sql(str(found.hint).replace("CONCURRENTLY ", ""))
    assert _found(subject) == []


@pytest.mark.parametrize(
    "sql",
    [
        "DROP INDEX ix_users_email; CREATE UNIQUE INDEX one ON users (lower(email))",
        "DROP INDEX ix_users_email; CREATE UNIQUE INDEX one ON users (email) WHERE email IS NOT NULL",
        "DROP INDEX ix_users_email; ALTER TABLE users ADD CONSTRAINT one UNIQUE (email)",
        "CREATE RULE r AS ON INSERT TO users DO ALSO NOTHING",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON users USING (true)",
        "GRANT SELECT (username) ON users TO PUBLIC",
        "REVOKE TRUNCATE ON user_credits FROM CURRENT_USER",
        f"GRANT SELECT ON {VERSION_TABLE} TO PUBLIC",
        (
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON users FOR INSERT WITH CHECK (false);"
            " CREATE POLICY q ON users USING (false); CREATE POLICY r ON users FOR SELECT USING (true)"
        ),
        "UPDATE user_credits SET last_reset_date = current_date + 1",
        "UPDATE users SET status = 'BANNED' WHERE id <> (SELECT id FROM users WHERE status = 'ACTIVE' LIMIT 1)",
        f"{SHUT_OUT}; GRANT USAGE ON SCHEMA public TO {ROLE}",
    ],
)
def test_what_guards_as_well_is_no_finding(sql: str, subject: Subject) -> None:
    """Another index of the same meaning, and a rule that takes nothing away."""
    subject.connection.exec_driver_sql(sql)
    assert _found(subject) == []


LEAKS = {
    "CREATE VIEW one AS SELECT password_hash FROM users; CREATE VIEW leak AS SELECT * FROM one": "SELECT",
    "CREATE VIEW leak AS SELECT u FROM users u": "SELECT",
    "CREATE VIEW leak AS SELECT to_jsonb(u) AS password_hash FROM users u": "SELECT (password_hash)",
    "CREATE MATERIALIZED VIEW leak AS SELECT password_hash FROM users": "SELECT (password_hash)",
}


@pytest.mark.parametrize("sql", LEAKS)
def test_a_view_of_secrets_is_named_however_it_shows_them(sql: str, subject: Subject) -> None:
    """A view over a view, of whole rows, of a column that everybody may read."""
    subject.connection.exec_driver_sql(sql)
    assert _found(subject) == []
    subject.connection.exec_driver_sql(f"GRANT {LEAKS[sql]} ON leak TO PUBLIC")
    assert [(one.subject, one.severity) for one in _found(subject)] == [("leak", WARNING)]
    subject.connection.exec_driver_sql("REVOKE ALL ON leak FROM PUBLIC; CREATE VIEW other AS SELECT id FROM users u")
    subject.connection.exec_driver_sql("GRANT SELECT ON other TO PUBLIC")
    assert _found(subject) == []


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("UPDATE lawyer_level_details SET level_points = 5", "lawyer_level_details.level_points"),
        (
            (
                "INSERT INTO lawyer_point_transactions"
                " (lawyer_id, transaction_type, points_change, points_before, points_after)"
                " SELECT id, 'x', 1, 0, 1 FROM users WHERE account_type = 'user' LIMIT 1"
            ),
            "lawyer_point_transactions.lawyer_id",
        ),
        ("UPDATE users SET account_type = 'pending'", "users.account_type"),
    ],
)
def test_rows_that_do_not_fit_are_named(sql: str, names: str, subject: Subject) -> None:
    """Points without ledger, ledger without lawyer, and the upgrade's lawyers pending: warnings."""
    subject.connection.exec_driver_sql(sql)
    assert [(one.subject, one.severity) for one in _found(subject)] == [(names, WARNING)]


BODY = "CREATE OR REPLACE FUNCTION lawsker_touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS '{}'"
NO_ROW = "BEGIN RETURN NULL; END"


@pytest.mark.parametrize(
    ("sql", "problem", "chinese"),
    [
        (
            "ALTER TABLE lawyer_levels DISABLE TRIGGER ALL",
            "constraint differs: triggers that keep it are switched off",
            "维护它的触发器已被停用",
        ),
        (
            BODY.format(NO_ROW),
            f"function differs: body: expected BEGIN NEW.updated_at = now(); RETURN NEW; END, found {NO_ROW}",
            f"实为 {NO_ROW}",
        ),
        (
            "ALTER TABLE user_credits ALTER credits_weekly DROP NOT NULL, ALTER credits_weekly SET DEFAULT 2",
            "column differs: default: expected 1, found 2; not_null: expected True, found False",
            "default：应为 1，实为 2",
        ),
    ],
)
def test_how_it_differs_is_told_in_words(sql: str, problem: str, chinese: str, subject: Subject) -> None:
    """Once, without names that only we know, and in Chinese too."""
    subject.connection.exec_driver_sql(sql)
    (found,) = _found(subject)
    assert found.problem == problem
    assert chinese in in_chinese(found.problem)
