"""`tool verify` as a whole: silent where a database is healthy, wherever it runs, and honest where it cannot look."""

from __future__ import annotations

import os
import secrets
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from alembic import command

from datamigrations.accounts import upgrade_users
from datamigrations.pagtive import ImportOptions, import_pagtive
from rollout import manifest, plan
from rollout.checks import registry
from rollout.embedded import EmbeddedServer
from rollout.errors import LockNotAcquired, RolloutError, VerificationFailed
from rollout.findings import ERROR, WARNING, Finding
from rollout.monitor import status
from rollout.run import Run
from rollout.sample_data.pagtive import create_pagtive_schema, fill_pagtive
from rollout.verify import verify
from tests.fixtures.databases import execute, query, url_of
from tests.fixtures.legacy import LOCKS, attempt
from tests.fixtures.upgraded import connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rollout.settings import Server
    from tests.fixtures.databases import MakeDatabase, SettingsFor
    from tests.fixtures.legacy import Gate

ROUNDS = 1000

# What an application of before the upgrade and one of after it do all day; each statement is a write.
A_ROUND = (
    """INSERT INTO users (id, tenant_id, username, password_hash, email, status)
       SELECT gen_random_uuid(), min(id::text)::uuid, 'new %(n)s', '$2b$12$' || %(n)s, 'new%(n)s@x.example', 'PENDING'
       FROM tenants""",
    """INSERT INTO user_roles (user_id, role_id)
       SELECT u.id, r.id FROM users u, roles r WHERE u.username = 'new %(n)s'
         AND r.name = (ARRAY['User', 'Lawyer', 'Institution', 'Admin', 'Sales'])[%(n)s %% 5 + 1] LIMIT 1""",
    "UPDATE users SET last_login = now(), status = 'ACTIVE' WHERE username = 'new %(n)s'",
    """INSERT INTO cases (id, tenant_id, client_id, case_number, debtor_info, case_amount, status, sales_user_id,
                          debt_creation_date, legal_status, assigned_to_user_id)
       SELECT gen_random_uuid(), c.tenant_id, c.id, 'N%(n)s', '{}', %(n)s, 'ASSIGNED', c.sales_owner_id, current_date,
              'VALID', (SELECT lawyer_id FROM lawyer_level_details LIMIT 1)
       FROM clients c LIMIT 1""",
    """INSERT INTO credit_purchase_records (user_id, credits_count, unit_price, total_amount, status)
       SELECT user_id, 1 + %(n)s %% 5, 45, 45, (ARRAY['pending', 'paid', 'failed', 'refunded'])[%(n)s %% 4 + 1]
       FROM user_credits ORDER BY user_id OFFSET %(n)s %% 50 LIMIT 1""",
    """UPDATE user_credits SET credits_remaining = %(n)s %% 3, credits_weekly = 0, last_reset_date = current_date,
              total_credits_used = total_credits_used + 1
       WHERE user_id = (SELECT user_id FROM user_credits ORDER BY user_id OFFSET %(n)s %% 50 LIMIT 1)""",
    """WITH lawyer AS (
           SELECT lawyer_id, level_points FROM lawyer_level_details ORDER BY lawyer_id OFFSET %(n)s %% 20 LIMIT 1
       ), earned AS (
           INSERT INTO lawyer_point_transactions
               (lawyer_id, transaction_type, points_change, points_before, points_after)
           SELECT lawyer_id, 'case_complete', 50, level_points, level_points + 50 FROM lawyer
       )
       UPDATE lawyer_level_details d SET level_points = d.level_points + 50, cases_completed = cases_completed + 1,
              current_level = (SELECT max(l.level) FROM lawyer_levels l
                               WHERE (l.requirements ->> 'level_points')::int <= d.level_points + 50
                                 AND (l.requirements ->> 'cases_completed')::int <= d.cases_completed + 1),
              success_rate = %(n)s %% 101, client_rating = %(n)s %% 6
       FROM lawyer WHERE lawyer.lawyer_id = d.lawyer_id""",
    """INSERT INTO case_invitations (case_id, lawyer_id, status, expires_at, invitation_score)
       SELECT c.id, d.lawyer_id, (ARRAY['pending', 'accepted', 'declined', 'expired'])[%(n)s %% 4 + 1], now(), 88
       FROM cases c, (SELECT lawyer_id FROM lawyer_level_details LIMIT 1) AS d WHERE c.case_number = 'N%(n)s'""",
    """WITH client AS (
           INSERT INTO enterprise_clients (company_name, company_type, contact_person, contact_phone, contact_email,
                                           service_type)
           VALUES ('企业 %(n)s', 'bank', '王', '1', 'a@b.example', 'compliance') RETURNING id
       )
       INSERT INTO enterprise_subscriptions (client_id, package_id, start_date, end_date, monthly_fee, cases_limit,
                                             cases_used, status)
       SELECT client.id, p.id, current_date - 40, current_date - 10, 1, 500, 500, 'expired'
       FROM client, enterprise_service_packages p WHERE package_type = 'basic'""",
    """UPDATE enterprise_service_packages SET monthly_fee = monthly_fee + 1, is_active = %(n)s %% 2 = 0
       WHERE package_type = 'custom'""",
)


def _found(run: Run, severity: str = ERROR) -> list[tuple[str, str]]:
    """Return (subject, problem) of a run's findings."""
    return [(one.subject, str(one.problem)) for one in run.findings if one.severity == severity]


def _verified(settings: Any, **options: Any) -> Run:
    """Verify and return the run, however it ended."""
    run = Run("verify")
    with suppress(VerificationFailed):
        verify(settings, run, **options)
    return run


@pytest.mark.variant
def test_ten_thousand_ordinary_writes_are_no_error(migrated: Server, settings_for: SettingsFor) -> None:
    """Sign-ups that know nothing of the new columns, cases, purchases, level changes: verify names no error.

    What it says of users who came later is a warning with their count, and its repair works.
    """
    written = 0
    connection = psycopg2.connect(**migrated.parameters)
    try:
        with connection.cursor() as cursor:
            for number in range(ROUNDS):
                for statement in A_ROUND:
                    cursor.execute(statement, {"n": number})
                    written += cursor.rowcount
                connection.commit()
    finally:
        connection.close()
    assert written >= 10 * ROUNDS
    settings = settings_for(migrated)
    run = _verified(settings)
    assert _found(run) == []
    said = {one.subject: one for one in run.findings}
    edited = {"enterprise_service_packages.monthly_fee", "enterprise_service_packages.is_active"}
    assert said.keys() == {"workspace_mappings", "lawyer_level_details", "user_credits", *edited}
    assert said["workspace_mappings"].problem == f"{ROUNDS} user(s) who came later have no row"
    assert said["lawyer_level_details"].problem == f"{ROUNDS // 5} user(s) who came later have no row"
    assert said["user_credits"].problem == f"{ROUNDS // 5 * 2} user(s) who came later have no row"
    execute(migrated, *(said[table].hint for table in ("workspace_mappings", "lawyer_level_details", "user_credits")))
    assert {one.subject for one in _verified(settings).findings} == edited
    run = _verified(settings, deep=True)
    assert _found(run) == []
    assert {one["table"]: one["rows"] for one in run.result["content"]}["credit_purchase_records"] == ROUNDS


def test_an_import_is_no_error(migrated: Server, database: Server, settings_for: SettingsFor) -> None:
    """After sign-in accounts were made and Pagtive was imported, verify names no error."""
    with connected(database) as connection:
        create_pagtive_schema(connection)
        fill_pagtive(connection, users=300, projects_per_user=2, pages_per_project=2)
        connection.commit()
    settings = settings_for(migrated, database)
    upgrade_users(settings, Run("users upgrade"))
    run = Run("pagtive import")
    import_pagtive(settings, run, ImportOptions())
    assert run.result["tables"]["users"]["inserted"] > 100
    for deep in (False, True):
        assert _found(_verified(settings, deep=deep)) == []


OTHERS = """
CREATE TABLE their_audit (what text, at timestamptz DEFAULT now());
CREATE FUNCTION their_audit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    INSERT INTO their_audit (what) VALUES (TG_TABLE_NAME); RETURN NULL; END$$;
CREATE TRIGGER their_audit AFTER INSERT OR UPDATE ON user_credits FOR EACH ROW EXECUTE FUNCTION their_audit();
CREATE VIEW their_view AS SELECT * FROM lawyer_performance_summary JOIN user_accounts ON user_id = lawyer_id;
CREATE MATERIALIZED VIEW their_totals AS SELECT user_id, sum(total_amount) FROM credit_purchase_records GROUP BY 1;
CREATE INDEX their_index ON pagtive_projects (project_name);
CREATE STATISTICS their_statistics ON status, company_type FROM enterprise_clients;
ALTER TABLE lawyer_memberships ADD COLUMN their_column text DEFAULT 'x';
ALTER TABLE lawyer_memberships ADD CONSTRAINT their_check CHECK (their_column <> '');
CREATE TABLE their_table (user_id uuid REFERENCES users, project_id uuid REFERENCES pagtive_projects);
ALTER TABLE pagtive_llm_logs SET (autovacuum_vacuum_scale_factor = 0.01, fillfactor = 90);
ALTER TABLE pagtive_llm_logs ALTER COLUMN response_content SET STORAGE EXTERNAL, ALTER COLUMN model SET STATISTICS 500;
CREATE SCHEMA theirs; CREATE TABLE theirs.users (id serial PRIMARY KEY, email text);
CREATE TABLE theirs.user_credits (id serial PRIMARY KEY);
CREATE FUNCTION theirs.lawsker_touch_updated_at() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION lawsker_touch_updated_at(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE their_type AS ENUM ('a', 'b');
CREATE SEQUENCE their_sequence; SELECT nextval('their_sequence');
COMMENT ON TABLE clients IS 'theirs';
ALTER TABLE clients ADD COLUMN their_notes text, ADD COLUMN their_number int NOT NULL DEFAULT 1;
"""


def test_other_peoples_objects_are_no_error(migrated: Server, settings_for: SettingsFor) -> None:
    """Others may hang what they want on our tables, and beside them: at most a warning names it."""
    execute(migrated, OTHERS, "ALTER TYPE casestatus ADD VALUE 'ARCHIVED'")
    run = _verified(settings_for(migrated))
    assert _found(run) == []
    assert {subject for subject, _ in _found(run, WARNING)} == {
        "their_audit on user_credits", "their_index", "lawyer_memberships.their_column",
        "lawyer_memberships.their_check", "pagtive_llm_logs", "casestatus",
        "pagtive_llm_logs.model", "pagtive_llm_logs.response_content",
    }  # fmt: skip


class Replica(EmbeddedServer):
    """A streaming replica of another embedded server."""

    def __init__(self, primary: EmbeddedServer, directory: Path | None) -> None:
        """Keep the primary; nothing happens before the block is entered."""
        super().__init__(directory=directory, fast=True)
        self.primary = primary
        self.password = primary.password

    def _initialise(self, directory: Path, programs: Path) -> None:
        """Copy the primary's cluster; `-R` leaves word where to stream from."""
        del programs
        made = self._run(
            self.bin / "pg_basebackup", "-D", directory / "data", "-R", "-c", "fast", "-d", self.primary.url
        )
        assert made.returncode == 0, made.stderr


@pytest.fixture(scope="module")
def primary_and_replica() -> Iterator[tuple[EmbeddedServer, Replica]]:
    """Yield a server and its streaming replica."""
    with EmbeddedServer(fast=True) as primary, Replica(primary, None) as replica:
        yield primary, replica


@pytest.mark.variant
def test_a_replica_can_be_verified_also_after_failover(
    primary_and_replica: tuple[EmbeddedServer, Replica], settings_for: SettingsFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a streaming replica verify runs and finds a healthy database healthy; so it does once that is the primary."""
    primary, replica = primary_and_replica
    execute(primary.server(), "CREATE DATABASE lawsker")
    monkeypatch.setenv("DATABASE_URL", url_of(primary.server("lawsker")))
    command.upgrade(plan.alembic_config(), "head")
    streamed = replica.server("lawsker")
    _wait(streamed, "SELECT count(*) = 1 FROM public.lawsker_schema_version")
    settings = settings_for(streamed)
    assert query(streamed, "SELECT pg_is_in_recovery()") is True
    for deep in (False, True):
        run = _verified(settings, deep=deep)
        assert (run.findings, run.result["revision"]) == ([], plan.history()[-1].id)
    execute(primary.server("lawsker"), "DROP TABLE pagtive_user_map")
    _wait(streamed, "SELECT to_regclass('pagtive_user_map') IS NULL")
    assert _found(_verified(settings))[0] == ("pagtive_user_map", "table is missing")
    execute(replica.server(), "SELECT pg_promote()")
    assert query(streamed, "SELECT pg_is_in_recovery()") is False
    execute(streamed, "CREATE TABLE lives (); DROP TABLE lives")
    assert _found(_verified(settings))[0] == ("pagtive_user_map", "table is missing")


def _wait(server: Server, question: str) -> None:
    """Wait until a query answers true; the database itself may not have come over yet."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with suppress(psycopg2.Error):
            if query(server, question):
                return
        time.sleep(0.05)
    raise AssertionError(f"in vain: {question}")


def test_a_reader_can_verify(migrated: Server, settings_for: SettingsFor) -> None:
    """A role that may only read, and cannot see our memory, verifies; what it cannot see is said, and is no error."""
    role = f"reader_{os.getpid()}_{secrets.token_hex(4)}"
    execute(
        migrated,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
    )
    try:
        server = type(migrated)(migrated.key, {**migrated.parameters, "user": role, "password": "x"})
        run = _verified(settings_for(server))
    finally:
        execute(migrated, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert _found(run) == []
    # Without the memory nobody knows that feishu_auths was there before us, under its own names and without comments.
    said = [one for one in run.findings if not one.subject.startswith("feishu_")]
    assert {one.check for one in said} == {"sequences_are_ahead"}


SETTINGS = (
    "quote_all_identifiers = on", "search_path = theirs, public", "datestyle = 'German, DMY'", "jit = on",
    "client_encoding = 'LATIN1'", "standard_conforming_strings = on", "transform_null_equals = on",
    "default_transaction_isolation = 'serializable'", "default_transaction_read_only = on", "work_mem = '64kB'",
    "max_parallel_workers_per_gather = 0", "enable_indexscan = off", "row_security = on", "timezone = 'Asia/Tokyo'",
    "bytea_output = 'escape'", "extra_float_digits = -15", "xmloption = 'document'", "lc_messages = 'C'",
)  # fmt: skip


@pytest.mark.variant
def test_odd_settings_of_the_database_are_no_error(migrated: Server, settings_for: SettingsFor) -> None:
    """What the database sets for every session changes nothing of what verify sees; that nobody can write is told."""
    name = migrated.parameters["dbname"]
    execute(migrated, "CREATE SCHEMA theirs", "CREATE TABLE theirs.users (id int)")
    execute(migrated, *(f'ALTER DATABASE "{name}" SET {one}' for one in SETTINGS))
    for deep in (False, True):
        run = _verified(settings_for(migrated), deep=deep)
        assert [one.subject for one in run.findings] == ["default_transaction_read_only"]


@pytest.mark.variant
def test_the_uuids_of_postgresql_12_are_no_error(migrated: Server, settings_for: SettingsFor) -> None:
    """A default that calls pgcrypto's function, as a database of PostgreSQL 12 does, is ours; an impostor's is not."""
    if query(migrated, "SELECT to_regprocedure('public.gen_random_uuid()') IS NOT NULL"):
        pytest.skip("PostgreSQL 12: the extension itself is there, and every other test runs on its function")
    execute(
        migrated,
        "CREATE FUNCTION public.gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT pg_catalog.gen_random_uuid()'",
        "ALTER TABLE user_accounts ALTER COLUMN id SET DEFAULT public.gen_random_uuid()",
    )
    assert [name for name, _ in _found(_verified(settings_for(migrated)))] == ["user_accounts.id"]
    if not query(migrated, "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pgcrypto')"):
        # No server has it at hand: what CREATE EXTENSION leaves in the catalogs.
        execute(
            migrated,
            "INSERT INTO pg_extension SELECT 99999, 'pgcrypto', extowner, 'public'::regnamespace, true, '1.3' FROM"
            " pg_extension LIMIT 1",
            "INSERT INTO pg_depend VALUES ('pg_proc'::regclass, 'public.gen_random_uuid'::regproc, 0,"
            " 'pg_extension'::regclass, 99999, 0, 'e')",
        )
        # One of the extension's that somebody replaced is no better: pgcrypto's own is written in C.
        assert [name for name, _ in _found(_verified(settings_for(migrated)))] == ["user_accounts.id"]
        execute(
            migrated,
            "UPDATE pg_proc SET prolang = (SELECT oid FROM pg_language WHERE lanname = 'c')"
            " WHERE oid = 'public.gen_random_uuid'::regproc",
        )
        assert _found(_verified(settings_for(migrated))) == []


def test_rows_that_are_hidden_are_a_failure(migrated: Server, settings_for: SettingsFor) -> None:
    """Where row security hides users from who verifies, checks fail: they do not pass over what is left."""
    role = f"reader_{os.getpid()}_{secrets.token_hex(4)}"
    execute(
        migrated,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        "DELETE FROM user_credits WHERE user_id = (SELECT min(user_id::text)::uuid FROM user_credits)",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
    )
    try:
        server = type(migrated)(migrated.key, {**migrated.parameters, "user": role, "password": "x"})
        run = _verified(settings_for(server), areas=["data"])
    finally:
        execute(migrated, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    hidden = {one.check for one in run.findings if "row-level security" in str(one.problem)}
    assert hidden >= {"people_can_sign_in", "every_user_has_a_workspace", "references_lead_somewhere"}


@pytest.mark.variant
def test_at_every_revision_and_after_every_downgrade(
    created: Server, make_database: MakeDatabase, settings_for: SettingsFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `alembic downgrade` the structure is that revision's, nothing of ours left over, and no other one's."""
    server = make_database(created)
    monkeypatch.setenv("DATABASE_URL", url_of(server))
    settings = settings_for(server)
    history = plan.history()
    for earlier, later in zip(reversed(history[:-1]), reversed(history[1:]), strict=True):
        command.downgrade(plan.alembic_config(), earlier.id)
        assert _found(_verified(settings)) == []
        assert _found(_verified(settings, at=earlier.id, areas=["structure"])) == []
        if manifest.touched([later.id], major=18):
            assert _found(_verified(settings, at=later.id, areas=["structure"])) != []
    run = _verified(settings, at="head")
    assert len(_found(run)) > 100


@pytest.mark.variant
def test_downgrades_of_a_legacy_database(migrated: Server, settings_for: SettingsFor) -> None:
    """A legacy database, too, is that of each family after a downgrade to it."""
    settings = settings_for(migrated)
    for family in reversed([*plan.families()][:-1]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", url_of(migrated))
            command.downgrade(plan.alembic_config(), plan.resolve(family) or "base")
        assert _found(_verified(settings)) == []


def test_a_database_that_was_not_upgraded(legacy: Server, settings_for: SettingsFor) -> None:
    """Where no revision is recorded, that is an error, with what to do."""
    run = _verified(settings_for(legacy))
    assert _found(run) == [("database", "no revision of ours is recorded: the database has not been upgraded")]
    parts = {one.subject.partition(".")[0] for one in run.findings if one.severity == WARNING}
    assert parts == {"feishu_auths"}, "of the legacy tables, those that a later revision makes where they are missing"


def test_a_version_table_that_does_not_tell_is_found(migrated: Server, settings_for: SettingsFor) -> None:
    """Where nobody can say which revision to verify against, that is an error like others; `status` says the same."""
    damages = {
        "INSERT INTO lawsker_schema_version VALUES ('feedc0ffee00')": "names 2 revisions",
        "DELETE FROM lawsker_schema_version WHERE version_num <> 'feedc0ffee00'": "feedc0ffee00, which was never",
        "DELETE FROM lawsker_schema_version": "names no revision, but",
        "DROP TABLE lawsker_schema_version": "names no revision, but",
    }
    for damage, problem in damages.items():
        execute(migrated, damage)
        for command_of in (verify, status):
            run = Run("verify")
            with pytest.raises(VerificationFailed, match=problem):
                command_of(settings_for(migrated), run)
            found = [(one.check, one.subject) for one in run.findings]
            assert found == [("revision_is_known", "lawsker_schema_version")]


@pytest.mark.variant
def test_a_sign_up_that_waited_for_the_upgrade_came_later(gated: Gate, settings_for: SettingsFor) -> None:
    """A sign-up that began before the upgrade and waits for its locks is no user whom the upgrade forgot."""
    waiting = psycopg2.connect(**gated.server.parameters)
    done: list[str] = []

    def sign_up() -> None:
        with waiting.cursor() as cursor:
            cursor.execute(A_ROUND[0], {"n": 1})
            cursor.execute("SELECT created_at::text FROM users WHERE username = 'new 1'")
            done.append(cursor.fetchone()[0])
        waiting.commit()

    def let_it_wait() -> None:
        gated.somebody()
        thread.start()
        waiters = f"SELECT count(*) = 1 FROM {LOCKS} WHERE relation = 'users'::regclass AND NOT granted"
        _wait(gated.server, waiters)
        gated.open()

    thread = threading.Thread(target=sign_up)
    opener = threading.Thread(target=let_it_wait)
    try:
        with waiting.cursor() as cursor:
            cursor.execute("SELECT now()")  # its clock stands still from here on
        opener.start()
        assert attempt(settings_for(gated.server)).exit_code == 0
        opener.join(30)
        thread.join(30)
    finally:
        waiting.close()
    assert query(gated.server, f"SELECT '{done[0]}' < min(applied_at) FROM rollout.applied_revisions") is True
    run = _verified(settings_for(gated.server))
    assert _found(run) == []
    assert ("workspace_mappings", "1 user(s) who came later have no row") in _found(run, WARNING)


def test_a_user_of_before_is_an_error_whenever_it_shows(migrated: Server, settings_for: SettingsFor) -> None:
    """A user who was there at the upgrade and lost the mapping since is an error, changed since or not."""
    execute(
        migrated,
        "UPDATE users SET last_login = now()",
        "DELETE FROM workspace_mappings WHERE user_id = (SELECT min(user_id::text)::uuid FROM workspace_mappings)",
    )
    assert _found(_verified(settings_for(migrated))) == [
        ("workspace_mappings", "1 user(s) of before the upgrade have no row")
    ]


@pytest.mark.parametrize(
    ("sql", "subject"),
    [
        ("UPDATE users SET password_hash = ''", "users.password_hash"),
        ("UPDATE users SET email = NULL", "users.email"),
        ("UPDATE users SET password_hash = 'x'", "users.password_hash"),
        ("UPDATE users SET status = 'BANNED'", "users.status"),
        ("SET session_replication_role = replica; DELETE FROM users WHERE random() < 2", "users"),
    ],
)
def test_the_upgrades_record_knows_who_could_sign_in(
    sql: str, subject: str, migrated: Server, settings_for: SettingsFor
) -> None:
    """What vanished since the upgrade is an error, also where ANALYZE has seen only what is left."""
    execute(migrated, sql, "ANALYZE users")
    assert subject in [named for named, _ in _found(_verified(settings_for(migrated)))]


def test_a_mass_of_addresses_that_went_is_said(migrated: Server, settings_for: SettingsFor) -> None:
    """A third of the addresses gone, the users still there: a warning with both numbers."""
    execute(migrated, "UPDATE users SET email = NULL WHERE ctid IN (SELECT ctid FROM users WHERE email <> '' LIMIT 30)")
    assert [subject for subject, _ in _found(_verified(settings_for(migrated)), WARNING)] == ["users.email"]


@pytest.mark.parametrize(
    ("sql", "subject", "severity"),
    [
        ("DELETE FROM rollout.preexisting_objects", "rollout.preexisting_objects", ERROR),
        ("UPDATE users SET phone_number = NULL", "users.phone_number", WARNING),
        ("DELETE FROM user_accounts", "user_accounts", WARNING),
    ],
)
def test_what_runs_recorded_is_gone(
    sql: str, subject: str, severity: str, migrated: Server, settings_for: SettingsFor
) -> None:
    """That users was there before us, phone numbers, sign-in accounts: runs recorded them, and they are missed."""
    settings = settings_for(migrated)
    upgrade_users(settings, Run("users upgrade"))
    assert _verified(settings).findings == []
    execute(migrated, sql)
    assert subject in [named for named, _ in _found(_verified(settings), severity)]


@pytest.mark.variant
def test_a_check_that_takes_too_long_is_a_failure(migrated: Server, settings_for: SettingsFor) -> None:
    """A statement that runs into the timeout is an error that says so, and not the end of the others."""
    execute(
        migrated,
        "ALTER TABLE roles RENAME TO their_roles",
        "CREATE VIEW roles AS SELECT r.* FROM their_roles r, pg_sleep(20)",
    )
    began = time.monotonic()
    run = _verified(settings_for(migrated, statement_timeout=0.5), areas=["data", "business"])
    assert time.monotonic() - began < 15
    slow = [one for one in run.findings if "statement timeout" in one.problem]
    assert {one.check for one in slow} >= {"every_lawyer_has_a_level", "workspaces_agree"}
    assert run.result["summary"]["failed"] >= len(slow)
    assert run.result["summary"]["passed"] > 5


def test_it_waits_for_nobody(migrated: Server, settings_for: SettingsFor) -> None:
    """Who works on another table does not matter; who holds one of ours exclusively ends it soon."""
    holder = psycopg2.connect(**migrated.parameters)
    settings = settings_for(migrated, lock_timeout=0.2)
    try:
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE users, clients, user_credits IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute("LOCK TABLE support_tickets, access_log, invoices IN ACCESS EXCLUSIVE MODE")
            assert _verified(settings).findings == []
            cursor.execute("LOCK TABLE lawyer_level_details IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            with pytest.raises(LockNotAcquired):
                verify(settings, Run("verify"))
            assert time.monotonic() - began < 5
    finally:
        holder.close()


@pytest.mark.variant
def test_very_big_tables_are_sampled(
    migrated: Server, settings_for: SettingsFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a size, only a sample of a table's pages is read; it is said so, and what is wrong everywhere is found."""
    monkeypatch.setattr(registry, "WHOLE_PAGES", 0)
    monkeypatch.setattr(registry, "SAMPLED_PAGES", 1000)  # a sample of one page may well be one of none
    execute(
        migrated,
        "INSERT INTO user_accounts (user_id, type, provider, provider_account_id) SELECT id, 'email',"
        " 'email', email FROM users WHERE email IS NOT NULL",
    )
    settings = settings_for(migrated)
    run = _verified(settings)
    assert run.findings == []
    assert {one["table"] for one in run.result["sampled"]} >= {"users", "user_accounts", "workspace_mappings"}
    execute(migrated, "UPDATE users SET workspace_id = DEFAULT, email = NULL", "ANALYZE")
    named = {subject for subject, _ in _found(_verified(settings))}
    assert named == {"workspace_mappings.workspace_id", "users.email"}
    assert _verified(settings, deep=True).result["sampled"] == []


def test_deep_believes_no_catalog(migrated: Server, settings_for: SettingsFor) -> None:
    """Rows that break a constraint which the catalogs call validated are found by --deep."""
    execute(
        migrated,
        "ALTER TABLE user_credits DROP CONSTRAINT ck_user_credits_credits_remaining",
        "UPDATE user_credits SET credits_remaining = -5",
        "ALTER TABLE user_credits ADD CONSTRAINT ck_user_credits_credits_remaining CHECK (credits_remaining >= 0)"
        " NOT VALID",
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'ck_user_credits_credits_remaining'",
        "UPDATE pg_attribute SET attnotnull = false WHERE attrelid = 'demo_accounts'::regclass"
        " AND attname = 'display_name'",
        "UPDATE demo_accounts SET display_name = NULL",
        "UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 'demo_accounts'::regclass"
        " AND attname = 'display_name'",
    )
    settings = settings_for(migrated)
    assert _found(_verified(settings, areas=["structure"])) == []
    assert [name for name, _ in _found(_verified(settings, deep=True, areas=["data"]))] == [
        "demo_accounts.display_name", "user_credits.ck_user_credits_credits_remaining",
    ]  # fmt: skip


def test_deep_believes_no_index(migrated: Server, settings_for: SettingsFor) -> None:
    """A text that is there twice, of which its unique index knows once, is found by --deep, in each table."""
    broken = " WHERE indexrelid IN ('uq_users_workspace_id'::regclass, 'uq_workspace_mappings_workspace_id'::regclass)"
    both = "(SELECT id FROM users ORDER BY id LIMIT 2)"
    execute(
        migrated,
        f"UPDATE pg_index SET indisready = false{broken}",
        f"UPDATE users SET workspace_id = (SELECT min(workspace_id) || 'x' FROM users) WHERE id IN {both}",
        "UPDATE workspace_mappings SET workspace_id = (SELECT max(workspace_id) FROM users u WHERE u.id = user_id)"
        f" WHERE user_id IN {both}",
        f"UPDATE pg_index SET indisready = true{broken}",
    )
    found = _found(_verified(settings_for(migrated), deep=True))
    assert [one for one in found if "more than once" in one[1]] == [
        ("users.uq_users_workspace_id", "1 value(s) are there more than once"),
        ("workspace_mappings.uq_workspace_mappings_workspace_id", "1 value(s) are there more than once"),
    ]


@pytest.mark.variant
def test_deep_fingerprints_are_those_of_every_copy(
    migrated: Server, make_database: MakeDatabase, settings_for: SettingsFor
) -> None:
    """The same content has the same fingerprints in another database; one changed value shows in its table alone."""
    copy = make_database(migrated)
    one, other = (_verified(settings_for(server), deep=True).result["content"] for server in (migrated, copy))
    assert one == other
    execute(copy, "UPDATE user_credits SET credits_weekly = credits_weekly + 1 WHERE ctid = '(0,1)'")
    other = _verified(settings_for(copy), deep=True).result["content"]
    assert [a["table"] for a, b in zip(one, other, strict=True) if a != b] == ["user_credits"]


def test_what_cannot_be_connected_to_raises(settings_for: SettingsFor, database: Server) -> None:
    """No database, no verdict."""
    with pytest.raises(RolloutError):
        verify(settings_for(database.to_database("nowhere")), Run("verify"))


def test_findings_stand_by_area(migrated: Server, settings_for: SettingsFor) -> None:
    """Only the areas that were asked for are looked at, and each finding says which it is of."""
    execute(migrated, "DROP TABLE pagtive_user_map", "DELETE FROM lawyer_levels WHERE level = 9")
    settings = settings_for(migrated)
    for area in ("structure", "data", "business", "performance", "security"):
        findings: list[Finding] = _verified(settings, areas=[area]).findings
        assert {one.area for one in findings} <= {area}
    assert {one.area for one in _verified(settings).findings} >= {"structure", "data"}
