"""Checks of security: each finds its damage, and none minds rights that are nobody's danger."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rollout.checks.registry import CHECKS, Area
from rollout.checks.security import SECRETS
from rollout.findings import ERROR, WARNING
from tests.fixtures.tiers import tried_once
from tests.rollout.damages import Damage, findings

if TYPE_CHECKING:
    from pathlib import Path

    from rollout.checks.registry import Subject
    from rollout.settings import Server
    from tests.fixtures.databases import SettingsFor

ROLE = "lawsker_checks"  # a name that does not change: it stands in the names of tests
"""A role that a test makes in its transaction, and that is gone with it."""

HERE = "DO $$ BEGIN EXECUTE format('{}', current_database()); END $$"
"""A statement about the database of the test, which it calls ``%%I``."""

SET_HERE = HERE.format("ALTER DATABASE %%I SET {}")
NO_CONNECT = HERE.format("REVOKE CONNECT ON DATABASE %%I FROM PUBLIC")

OPEN_ALL = "ALTER DEFAULT PRIVILEGES {}GRANT SELECT ON TABLES TO PUBLIC"

DEFINER = "CREATE FUNCTION leak(a text) RETURNS {} LANGUAGE {} SECURITY DEFINER {} AS $x${}$x$;"

DAMAGES = [
    *(
        Damage("functions_keep_secrets", sql, "leak(text)", WARNING)
        for sql in (
            DEFINER.format("text", "sql", "STABLE", "SELECT password_hash FROM users WHERE email = a"),
            DEFINER.format("SETOF user_accounts", "sql", "", "SELECT * FROM user_accounts"),
            DEFINER.format("SETOF users", "plpgsql", "", "BEGIN RETURN QUERY TABLE users; END"),
            DEFINER.format("jsonb", "plpgsql", "", "BEGIN RETURN (SELECT jsonb_agg(f) FROM feishu_auths f); END"),
            DEFINER.format("TABLE (one uuid, two text)", "sql", "", "SELECT id, access_token FROM user_accounts"),
            DEFINER.format("text", "sql", "", "SELECT refresh_token FROM user_accounts LIMIT 1")
            + f"CREATE ROLE {ROLE}; GRANT EXECUTE ON FUNCTION leak(text) TO {ROLE}",
            "CREATE PROCEDURE leak(INOUT a text) LANGUAGE sql SECURITY DEFINER AS 'SELECT id_token FROM user_accounts'",
        )
    ),
    *(
        Damage(
            "secrets_are_private",
            "GRANT SELECT ({1}) ON {0} TO PUBLIC".format(*secret.split(".")),
            secret,
            # The other two tables were there before us.
            ERROR if secret.startswith("user_accounts.") else WARNING,
        )
        for secret in SECRETS
    ),
    Damage(
        "who_has_rights_may_enter",
        f"CREATE ROLE {ROLE}; GRANT UPDATE (email) ON users TO {ROLE}; REVOKE USAGE ON SCHEMA public FROM PUBLIC",
        "schema public",
        WARNING,
    ),
    Damage(
        "who_has_rights_may_enter",
        f"CREATE ROLE {ROLE} LOGIN; GRANT SELECT ON user_credits TO {ROLE}; {NO_CONNECT}",
        "database",
        WARNING,
    ),
    Damage(
        "our_memory_has_one_owner",
        f"CREATE ROLE {ROLE}; ALTER TABLE lawsker_schema_version OWNER TO {ROLE}",
        "lawsker_schema_version",
        WARNING,
    ),
    Damage("secrets_are_private", "GRANT SELECT ON users TO PUBLIC", "users.password_hash", WARNING),
    Damage(
        "secrets_are_private",
        "CREATE VIEW leak AS SELECT id, password_hash FROM users; GRANT SELECT ON leak TO PUBLIC",
        "leak",
        WARNING,
    ),
    Damage("new_tables_are_private", OPEN_ALL.format("IN SCHEMA public "), "default privileges", WARNING),
    Damage("new_tables_are_private", OPEN_ALL.format(""), "default privileges", WARNING),
    Damage("secrets_will_be_private", OPEN_ALL.format(""), "default privileges"),
    Damage("secrets_will_be_private", "GRANT SELECT ON users TO PUBLIC", "users.password_hash", WARNING),
    Damage(
        "our_tables_have_the_owner_of_users",
        f"CREATE ROLE {ROLE}; ALTER TABLE user_accounts OWNER TO {ROLE}; ALTER ROLE {ROLE} NOLOGIN;"
        f"CREATE ROLE {ROLE}_app; ALTER TABLE users OWNER TO {ROLE}_app;"
        "DO $$ DECLARE relation text; BEGIN FOR relation IN SELECT c.oid::regclass FROM pg_class c"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'user_accounts'"
        f" LOOP EXECUTE 'ALTER TABLE ' || relation || ' OWNER TO {ROLE}_app'; END LOOP; END $$;"
        f"ALTER FUNCTION lawsker_touch_updated_at() OWNER TO {ROLE}_app",
        "user_accounts",
        WARNING,
    ),
    Damage("our_tables_are_not_everybodys", "GRANT ALL ON lawyer_levels TO PUBLIC", "lawyer_levels", WARNING),
    Damage(
        "our_tables_are_not_everybodys",
        "GRANT UPDATE (model) ON pagtive_llm_logs TO PUBLIC",
        "pagtive_llm_logs",
        WARNING,
    ),
    Damage(
        "our_tables_are_not_everybodys", "GRANT SELECT ON case_matching_stats TO PUBLIC", "case_matching_stats", WARNING
    ),
    Damage("our_tables_are_not_everybodys", "GRANT DELETE ON user_roles TO PUBLIC", "user_roles", WARNING),
    Damage("owners_keep_their_rights", "REVOKE ALL ON pagtive_projects FROM CURRENT_USER", "pagtive_projects", WARNING),
    Damage(
        "owners_keep_their_rights",
        "REVOKE SELECT ON case_matching_stats FROM CURRENT_USER",
        "case_matching_stats",
        WARNING,
    ),
    Damage(
        "sessions_fire_triggers",
        SET_HERE.format("session_replication_role = replica"),
        "session_replication_role",
    ),
    Damage(
        "sessions_fire_triggers",
        f"CREATE ROLE {ROLE}; ALTER ROLE {ROLE} SET session_replication_role = 'local'",
        "session_replication_role",
        WARNING,
    ),
    *(
        Damage(
            "sessions_may_write_and_find",
            SET_HERE.format(setting),
            setting.partition(" ")[0],
            WARNING,
        )
        for setting in ("default_transaction_read_only = on", "search_path = elsewhere, publics")
    ),
    Damage("our_memory_is_private", "GRANT USAGE ON SCHEMA rollout TO PUBLIC", "schema rollout"),
    Damage(
        "our_memory_is_private",
        "CREATE SCHEMA IF NOT EXISTS rollout_shelf; GRANT CREATE ON SCHEMA rollout_shelf TO PUBLIC",
        "schema rollout_shelf",
    ),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_a_damage_is_found(damage: Damage, subject: Subject) -> None:
    """Each check is silent on the upgraded database, and finds its damage, alone, with what to type."""
    assert findings(subject, damage.check) == []
    subject.connection.exec_driver_sql(damage.sql)
    subject.__dict__.pop("catalog", None)  # read before the damage
    found = findings(subject, damage.check)
    assert [(one.subject, one.severity) for one in found] == [(damage.subject, damage.severity)]
    assert found[0].problem


@pytest.mark.parametrize("damage", tried_once([one for one in DAMAGES if one.subject != "leak"], keep=5), ids=str)
def test_the_hint_mends_it(damage: Damage, subject: Subject) -> None:
    """What the finding says to type makes it go away."""
    subject.connection.exec_driver_sql(damage.sql)
    (found,) = findings(subject, damage.check)
    subject.connection.exec_driver_sql(str(found.hint))
    subject.__dict__.pop("catalog", None)
    assert findings(subject, damage.check) == []


def test_every_check_has_a_damage() -> None:
    """No check of security is without a test that makes it fire (the one of files has its own, below)."""
    checks = {name for name, check in CHECKS.items() if check.area is Area.SECURITY}
    assert checks == {damage.check for damage in DAMAGES} - {"secrets_will_be_private"} | {"files_are_private"}


@pytest.mark.parametrize(
    ("check", "sql"),
    [
        ("secrets_are_private", f"CREATE ROLE {ROLE}; GRANT SELECT ON users TO {ROLE}"),
        ("secrets_are_private", "GRANT SELECT (id, email) ON users TO PUBLIC; GRANT INSERT ON user_accounts TO PUBLIC"),
        ("secrets_are_private", "CREATE VIEW v AS SELECT id FROM users; GRANT SELECT ON v TO PUBLIC"),
        ("new_tables_are_private", f"CREATE ROLE {ROLE}; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {ROLE}"),
        ("new_tables_are_private", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO PUBLIC"),
        (
            "new_tables_are_private",
            f"CREATE ROLE {ROLE}; ALTER DEFAULT PRIVILEGES FOR ROLE {ROLE} GRANT SELECT ON TABLES TO PUBLIC",
        ),
        *(
            ("functions_keep_secrets", sql)
            for sql in (
                # A login check: it answers yes or no.
                DEFINER.format("boolean", "sql", "", "SELECT EXISTS (SELECT FROM users WHERE password_hash = a)"),
                DEFINER.format("text", "sql", "", "SELECT email FROM users -- not the password_hash"),
                DEFINER.format("text", "sql", "", "SELECT password_hash FROM users")
                + "REVOKE ALL ON FUNCTION leak(text) FROM PUBLIC",
                DEFINER.format("text", "sql", "", "SELECT password_hash FROM users").replace("DEFINER", "INVOKER"),
                "CREATE SCHEMA own; "
                + DEFINER.format("text", "sql", "", "SELECT password_hash FROM users").replace("leak", "own.leak"),
            )
        ),
        # Who owns users is a member of the role that owns our table.
        (
            "our_tables_have_the_owner_of_users",
            f"CREATE ROLE {ROLE}; GRANT {ROLE} TO current_user; ALTER TABLE user_accounts OWNER TO {ROLE}",
        ),
        (
            "our_memory_has_one_owner",
            f"CREATE ROLE {ROLE}; GRANT {ROLE} TO current_user; ALTER TABLE rollout.runs OWNER TO {ROLE}",
        ),
        *(
            (
                "sessions_may_write_and_find",
                SET_HERE.format(setting),
            )
            for setting in (
                "default_transaction_read_only = off",
                'search_path = "$user", public',
                "search_path = public",
            )
        ),
        ("sessions_may_write_and_find", f"CREATE ROLE {ROLE}; ALTER ROLE {ROLE} SET search_path = elsewhere"),
        (
            "who_has_rights_may_enter",
            f"CREATE ROLE {ROLE}; GRANT SELECT ON users TO {ROLE}; {NO_CONNECT}",
        ),
        ("our_memory_is_private", f"CREATE ROLE {ROLE}; GRANT USAGE ON SCHEMA rollout TO {ROLE}"),
    ],
)
def test_what_is_right_is_no_finding(check: str, sql: str, subject: Subject) -> None:
    """Rights of named roles, on other columns and other kinds of objects, are nobody's danger."""
    subject.connection.exec_driver_sql(sql)
    assert findings(subject, check) == []


def test_several_tables_of_another_owner_are_one_finding(subject: Subject) -> None:
    """Where an upgrade ran as somebody else, one line says so, and what to type for all tables."""
    subject.connection.exec_driver_sql(f"CREATE ROLE {ROLE}; ALTER TABLE users OWNER TO {ROLE}")
    (found,) = findings(subject, "our_tables_have_the_owner_of_users")
    assert f"ALTER TABLE lawyer_levels OWNER TO {ROLE};" in found.hint
    assert f"ALTER VIEW case_matching_stats OWNER TO {ROLE};" in found.hint


@pytest.fixture
def with_files(subject: Subject, upgraded: Server, settings_for: SettingsFor) -> Subject:
    """Return a subject whose settings point to a directory with a backup and a report, both private."""
    settings = settings_for(upgraded)
    for path in (settings.backups / "1" / "data.dump", settings.reports / "1.json"):
        path.parent.mkdir(parents=True)
        path.touch()
        path.chmod(0o600)
    for directory in (settings.backups, settings.backups / "1", settings.reports):
        directory.chmod(0o700)
    return replace(subject, settings=settings)


def _change(subject: Subject, path: str, mode: int) -> Path:
    """Change the mode of a file in ROLLOUT_DIR."""
    assert subject.settings is not None
    changed = subject.settings.directory / path
    changed.chmod(mode)
    return changed


def test_private_files_are_no_finding(with_files: Subject) -> None:
    """Files that are their owner's alone are fine; so are links, and a directory around them that others may enter."""
    assert with_files.settings is not None
    (with_files.settings.backups / "latest").symlink_to("1")
    _change(with_files, ".", 0o755)
    assert findings(with_files, "files_are_private") == []


@pytest.mark.parametrize(
    ("path", "mode"),
    [("backups", 0o750), ("backups/1", 0o701), ("backups/1/data.dump", 0o640), ("reports/1.json", 0o604)],
)
def test_open_files_are_found(path: str, mode: int, with_files: Subject) -> None:
    """Each file or directory that others may read, write or enter is named."""
    changed = _change(with_files, path, mode)
    (found,) = findings(with_files, "files_are_private")
    assert (found.subject, found.severity) == (str(changed), ERROR)


def test_without_settings_no_file_is_looked_at(subject: Subject) -> None:
    """Inside the upgrade, and where there is no directory, there is nothing to say."""
    assert subject.settings is None
    assert findings(subject, "files_are_private") == []
