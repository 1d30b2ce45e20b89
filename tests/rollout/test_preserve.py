"""The proof that nothing which existed was touched: each way of touching something is found, and named."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import text

from rollout import adopt, change, declared, plan, preserve
from rollout.database import engine_for
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import attempt, picture
from tests.fixtures.tiers import tried_once

STEPS = plan.make(None, plan.history()[-1].id)

# Besides the sample's own: what only some databases have.
FURTHER = (
    "CREATE PUBLICATION their_feed FOR TABLE clients, cases",
    "CREATE SCHEMA archive",
    "CREATE TABLE archive.users AS TABLE users",
    "CREATE AGGREGATE longest(text) (SFUNC = textcat, STYPE = text)",
    "COMMENT ON POLICY internal_notes_of_author ON internal_notes IS '作者可见'",
    "CREATE RULE no_delete AS ON DELETE TO city_codes DO INSTEAD NOTHING",
    "CREATE SEQUENCE their_own_seq START 500",
    "CREATE SEQUENCE downwards_seq INCREMENT -1 MAXVALUE 100",
    "SELECT setval('downwards_seq', -3)",
    "CREATE STATISTICS invoice_columns ON net, tax_rate FROM invoices",
)


@dataclass(frozen=True)
class Tampering:
    """SQL that no revision may run, and what is found: a finding's subject, and a word of its problem."""

    sql: str
    subject: str
    word: str = ""

    def __str__(self):
        """Name the test."""
        return re.sub(r"[^\w]+", "-", self.sql)[:60]


ROWS = [
    Tampering("UPDATE clients SET name = name WHERE id = (SELECT min(id::text)::uuid FROM clients)", "clients", "1 up"),
    Tampering("DELETE FROM user_audit WHERE id = 7", "user_audit", "1 deleted"),
    Tampering("INSERT INTO crm_sync_queue (payload) VALUES ('{}')", "crm_sync_queue", "1 rows inserted"),
    Tampering("INSERT INTO access_log (logged_at, path, status) VALUES ('2024-05-05', '/', 200)", "access_log_2024"),
    Tampering("UPDATE alembic_version SET version_num = 'ours'", "alembic_version", "1 up"),
    Tampering("DELETE FROM archive.users", "archive.users", "deleted"),
    Tampering("TRUNCATE news_articles", "news_articles", "truncated"),
    Tampering("CLUSTER office_rooms USING office_rooms_pkey", "office_rooms", "rewritten"),
    Tampering("REFRESH MATERIALIZED VIEW monthly_case_totals", "monthly_case_totals", "rewritten"),
    Tampering("UPDATE users SET last_login = now() WHERE ctid = '(0,1)'", "users", "content changed"),
    Tampering(
        "UPDATE users SET created_at = CASE username WHEN low THEN above ELSE below END FROM ("
        "SELECT min(username) AS low, max(username) AS high FROM users) n,"
        " LATERAL (SELECT (SELECT created_at FROM users WHERE username = high) AS above,"
        " (SELECT created_at FROM users WHERE username = low) AS below) v WHERE username IN (low, high)",
        "users",
        "content changed: 130 rows before, 130 now",
    ),
    Tampering(
        "ALTER TABLE clients DROP COLUMN credit_rating; ALTER TABLE clients ADD COLUMN credit_rating varchar(10)",
        "clients.credit_rating",
        "position",
    ),
    Tampering(
        "ALTER TABLE exchange_rates RENAME TO old; CREATE TABLE exchange_rates (LIKE old INCLUDING ALL);"
        " DROP TABLE old; ALTER INDEX exchange_rates_pkey1 RENAME TO exchange_rates_pkey",
        "exchange_rates",
        "oid",
    ),
    # setval() is not rolled back: each of these needs a sequence of its own.
    Tampering("SELECT setval('user_audit_id_seq', 3)", "user_audit_id_seq", "from 20 back to 3"),
    Tampering("SELECT setval('crm_sync_queue_id_seq', 1, false)", "crm_sync_queue_id_seq", "back to 0"),
    Tampering("SELECT setval('their_own_seq', 50, false)", "their_own_seq", "from 499 back to 49"),
    Tampering("SELECT setval('downwards_seq', 2)", "downwards_seq", "from -3 back to 2"),
    Tampering("ALTER SEQUENCE invoice_number_seq RESTART", "invoice_number_seq", "back"),
]

DEFINITIONS = [
    Tampering("REVOKE SELECT ON holiday_calendar FROM PUBLIC", "holiday_calendar", "acl"),
    Tampering("REVOKE UPDATE (note) ON holiday_calendar FROM PUBLIC", "holiday_calendar.note", "acl"),
    Tampering("GRANT SELECT ON users TO PUBLIC", "users", "acl"),
    Tampering("REVOKE EXECUTE ON FUNCTION normalise_phone() FROM PUBLIC", "normalise_phone()", "acl"),
    Tampering("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC", "database", "acl"),
    Tampering("ALTER DATABASE {database} SET work_mem = '1MB'", "database", "settings"),
    Tampering("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", "default privileges", "nobody declared it"),
    Tampering("ALTER TABLE wallets OWNER TO pg_monitor", "wallets", "owner"),
    Tampering("ALTER TABLE users DISABLE TRIGGER users_updated_at", "users_updated_at on users", "enabled"),
    Tampering("ALTER TABLE users ENABLE TRIGGER users_crm_sync", "users_crm_sync on users", "enabled"),
    Tampering("ALTER TABLE users ENABLE TRIGGER users_replica_log", "users_replica_log on users", "enabled"),
    Tampering("ALTER TABLE users ENABLE TRIGGER users_phone", "users_phone on users", "enabled"),
    Tampering("ALTER TABLE user_devices DISABLE TRIGGER ALL", "user_devices.user_devices_user_id_fkey", "triggers"),
    Tampering(
        "DROP TRIGGER sms_templates_updated_at ON sms_templates", "sms_templates_updated_at on sms_templates", "gone"
    ),
    Tampering(
        "CREATE OR REPLACE VIEW active_users AS SELECT id, username, email, created_at FROM users",
        "active_users",
        "query",
    ),
    Tampering(
        "CREATE OR REPLACE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql"
        " AS $$BEGIN RETURN NEW; END$$",
        "update_updated_at_column()",
        "body",
    ),
    Tampering("ALTER FUNCTION normalise_phone() SECURITY DEFINER", "normalise_phone()", "definition"),
    Tampering(
        "DROP AGGREGATE longest(text); CREATE AGGREGATE longest(text) (SFUNC = textcat, STYPE = text, INITCOND = '')",
        "longest(text)",
        "aggregate",
    ),
    Tampering("COMMENT ON TABLE support_tickets IS 'tickets'", "support_tickets", "comment"),
    Tampering("COMMENT ON COLUMN support_tickets.priority IS NULL", "support_tickets.priority", "comment"),
    Tampering("COMMENT ON VIEW active_users IS NULL", "active_users", "comment"),
    Tampering(
        "COMMENT ON POLICY internal_notes_of_author ON internal_notes IS NULL", "internal_notes_of_author", "comment"
    ),
    Tampering(
        "ALTER POLICY internal_notes_of_author ON internal_notes USING (true)", "internal_notes_of_author", "using"
    ),
    Tampering("DROP POLICY internal_notes_of_author ON internal_notes", "internal_notes_of_author", "gone"),
    Tampering("ALTER TABLE internal_notes DISABLE ROW LEVEL SECURITY", "internal_notes", "row_security"),
    Tampering("DROP RULE no_delete ON city_codes", "no_delete on city_codes", "gone"),
    Tampering("ALTER TABLE city_codes DISABLE RULE no_delete", "no_delete on city_codes", "enabled"),
    Tampering("ALTER SEQUENCE invoice_number_seq INCREMENT 1", "invoice_number_seq", "increment"),
    Tampering("ALTER TYPE ticket_priority RENAME VALUE 'urgent' TO 'now'", "ticket_priority", "labels"),
    Tampering("ALTER DOMAIN folder_name DROP CONSTRAINT folder_name_check", "folder_name", "checks"),
    Tampering("ALTER TABLE cases ALTER COLUMN debtor_info DROP NOT NULL", "cases.debtor_info", "not_null"),
    Tampering("ALTER TABLE clients ALTER COLUMN total_cases SET DEFAULT 0", "clients.total_cases", "default"),
    Tampering("ALTER TABLE clients ALTER COLUMN name TYPE varchar(300)", "clients.name", "type"),
    Tampering("ALTER TABLE clients ALTER COLUMN address SET STATISTICS 500", "clients.address", "statistics"),
    Tampering("ALTER TABLE clients ALTER COLUMN address SET STORAGE EXTERNAL", "clients.address", "storage"),
    Tampering("ALTER TABLE clients SET (fillfactor = 50)", "clients", "options"),
    Tampering("ALTER TABLE clients REPLICA IDENTITY FULL", "clients", "replica_identity"),
    Tampering("ALTER TABLE clients CLUSTER ON clients_pkey", "clients.clients_pkey", "clustered"),
    Tampering("ALTER TABLE clients RENAME COLUMN address TO street", "clients.address", "gone"),
    Tampering("DROP INDEX ix_profiles_id_card_number", "ix_profiles_id_card_number", "gone"),
    Tampering("ALTER INDEX ix_profiles_id_card_number RENAME TO other", "ix_profiles_id_card_number", "gone"),
    Tampering(
        "ALTER TABLE support_tickets DROP CONSTRAINT support_tickets_user_id_fkey, ADD CONSTRAINT"
        " support_tickets_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) NOT VALID",
        "support_tickets.support_tickets_user_id_fkey",
        "validated",
    ),
    Tampering("ALTER TABLE access_log DETACH PARTITION access_log_2023", "access_log_2023", "partition_of"),
    Tampering("DROP STATISTICS invoice_columns", "invoice_columns", "gone"),
    Tampering("DROP PUBLICATION their_feed", "publication their_feed", "gone"),
    Tampering("ALTER PUBLICATION their_feed DROP TABLE clients", "publication of table clients", "gone"),
    Tampering("DROP VIEW user_case_counts", "user_case_counts", "gone"),
    Tampering("DROP SCHEMA archive CASCADE", "archive.users", "gone"),
]

ADDITIONS = [
    Tampering("ALTER TABLE clients ADD COLUMN note text", "clients.note", "nobody declared it"),
    Tampering("ALTER TABLE users ADD COLUMN nickname text", "users.nickname", "nobody declared it"),
    Tampering("ALTER TABLE clients ADD CHECK (name <> '')", "clients.clients_name_check", "nobody declared it"),
    Tampering("CREATE INDEX their_speed ON clients (name)", "their_speed", "nobody declared it"),
    Tampering(
        "CREATE TRIGGER surprise BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION update_updated_at_column()",
        "surprise on clients",
        "nobody declared it",
    ),
    Tampering("CREATE RULE none AS ON UPDATE TO clients DO INSTEAD NOTHING", "none on clients", "nobody declared it"),
    Tampering("CREATE POLICY open ON internal_notes USING (true)", "open on internal_notes", "nobody declared it"),
    Tampering("CREATE TABLE scratch (id int)", "scratch", "nobody declared it"),
    Tampering("CREATE SCHEMA scratch", "scratch", "nobody declared it"),
    Tampering("CREATE FUNCTION scratch() RETURNS int LANGUAGE sql AS 'SELECT 1'", "scratch()", "nobody declared it"),
]


@pytest.fixture(scope="module")
def theirs(make_template, legacy_template):
    """Return a legacy database with a bit more; what a test does to it is rolled back."""
    server = make_template(legacy_template)
    execute(server, *FURTHER)
    return server


@contextmanager
def proof_of(server, **options):
    """Yield a connection between the two halves of the proof, and what compares; everything is rolled back."""
    with engine_for(server).connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.exec_driver_sql("SET LOCAL search_path = public")
        kept = frozenset(state.key for state in adopt.inspect(connection, STEPS) if state.is_kept)
        said = declared.by(connection, STEPS, kept)
        before = preserve.take(connection, adopt.WRITTEN, said, **options)
        yield connection, lambda: preserve.compare(connection, before, said)
        connection.rollback()


def assert_found(tampering, connection, compare):
    """Tamper, and see the proof name the object and what is wrong with it."""
    database = connection.execute(text("SELECT current_database()")).scalar_one()
    connection.exec_driver_sql(tampering.sql.replace("{database}", database))
    found = compare()
    assert [one for one in found if tampering.subject in one.subject and tampering.word in one.problem], found


@pytest.mark.parametrize("tampering", tried_once(ROWS, keep=8), ids=str)
def test_each_way_of_touching_rows_is_found(theirs, tampering):
    """One tampering with rows, files or positions of sequences; each in its own transaction, because writes count."""
    with proof_of(theirs) as (connection, compare):
        assert_found(tampering, connection, compare)


@pytest.fixture(scope="module")
def proof(make_template, theirs):
    """Yield the two halves of one proof, for tampering that is taken back to a savepoint."""
    with proof_of(make_template(theirs)) as (connection, compare):
        yield connection, compare


@pytest.mark.parametrize("tampering", tried_once([*DEFINITIONS, *ADDITIONS], keep=24), ids=str)
def test_each_way_of_touching_definitions_is_found(proof, tampering):
    """One tampering with what the catalogs say, or with something new; without it, there is nothing to find."""
    connection, compare = proof
    with connection.begin_nested() as savepoint:
        assert_found(tampering, connection, compare)
        savepoint.rollback()


def test_without_tampering_there_is_nothing_to_find(proof):
    """The proof is silent, also after everything else that this module did and took back."""
    assert proof[1]() == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nextval('invoice_number_seq')",
        "SELECT setval('banners_id_seq', 100000)",
        "SELECT setval('faq_entries_id_seq', 100000, false)",
        "ANALYZE users, clients",
        "CREATE TABLE user_credits (user_id uuid PRIMARY KEY REFERENCES users (id))",
        "ALTER TABLE users ADD COLUMN workspace_id varchar(50)",
        "CREATE TEMPORARY TABLE scratch AS TABLE users",
    ],
)
def test_what_is_allowed_is_not_found(theirs, sql):
    """Sequences may advance, statistics be taken, and what revisions declare may come."""
    with proof_of(theirs) as (connection, compare):
        connection.exec_driver_sql(sql)
        mine = {finding.subject for finding in compare()}
        assert mine <= {"user_credits.user_credits_pkey", "user_credits.user_credits_user_id_fkey"}


@pytest.mark.variant
def test_without_counters_everything_is_hashed(theirs):
    """Where writes are not counted, a change of content is found by content."""
    with proof_of(theirs, deep=True) as (connection, compare):
        connection.exec_driver_sql("UPDATE clients SET name = name || '?' WHERE ctid = '(0,1)'")
        assert [finding.subject for finding in compare()] == ["clients"]
    with proof_of(theirs, deep=True) as (connection, compare):
        connection.exec_driver_sql("UPDATE clients SET name = name")
        assert compare() == [], "the content is the same"


def test_counters_are_switched_on_for_the_transaction(legacy):
    """``track_counts = off`` in the database's settings does not blind the proof."""
    execute(legacy, f"ALTER DATABASE {legacy.database} SET track_counts = off")
    with proof_of(legacy) as (connection, compare):
        assert connection.execute(text("SHOW track_counts")).scalar_one() == "on"
        connection.exec_driver_sql("UPDATE clients SET name = name")
        assert [finding.subject for finding in compare()] == ["clients"]


@pytest.mark.variant
def test_what_the_proof_cannot_see_is_said(legacy, settings_for):
    """Large objects and foreign tables are counted, and the report says that nobody looked into them."""
    execute(legacy, "SELECT lo_from_bytea(0, 'x')", "SELECT lo_from_bytea(0, 'y')")
    run = attempt(settings_for(legacy))
    detail = next(step.detail for step in run.steps if step.name == "fingerprint")
    assert "2 large objects" in detail


@pytest.mark.parametrize(
    "tampering",
    tried_once(
        [
            Tampering("UPDATE users SET phone_number = NULL", "users", "content changed"),
            Tampering("TRUNCATE user_devices", "user_devices", "truncated"),
            Tampering("DROP TRIGGER users_updated_at ON users", "users_updated_at on users", "gone"),
        ]
    ),
    ids=str,
)
def test_a_rogue_revision_is_rolled_back(legacy, settings_for, monkeypatch, tampering):
    """The proof stands before COMMIT: exit code 9, and the database is exactly what it was."""
    before = picture(legacy)
    run_revisions = change._run_revisions

    def rogue(connection, *arguments):
        run_revisions(connection, *arguments)
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
        connection.exec_driver_sql(tampering.sql)

    monkeypatch.setattr(change, "_run_revisions", rogue)
    run = attempt(settings_for(legacy))
    assert (run.exit_code, run.database) == (9, "rolled back")
    found = [one for one in run.findings if one.subject == tampering.subject and tampering.word in one.problem]
    assert [one.check for one in found] == ["nothing_that_existed_changed"]
    assert before.differences(picture(legacy)) == []
    assert query(legacy, f"SELECT exit_code FROM rollout.runs WHERE run_id = '{run.run_id}'") == 9
