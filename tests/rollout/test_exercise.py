"""The exercise before COMMIT: it finds what would not work tomorrow, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rollout import catalog, exercise, plan, verify
from rollout.exercise import Scene
from rollout.findings import ERROR, WARNING
from rollout.fingerprint import rows_fingerprint
from tests.fixtures.databases import query
from tests.fixtures.legacy import attempt
from tests.fixtures.tiers import tried_once
from tests.fixtures.upgraded import connected

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from rollout.settings import Server
    from tests.fixtures.databases import SettingsFor

HEAD = plan.history()[-1].id


def _state(connection: Connection) -> object:
    """Return what a database holds and is: every row, every definition, every sequence's position."""
    tables = connection.exec_driver_sql(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    ).scalars()
    content = {
        table: rows_fingerprint(connection, f'SELECT ctid, xmin FROM public."{table}"', ["ctid", "xmin"])
        for table in tables.all()
    }
    sequences = connection.exec_driver_sql("SELECT sequencename, last_value FROM pg_sequences").all()
    return content, catalog.read(connection), sorted(sequences, key=str)


@pytest.mark.parametrize("database", ["upgraded", "created"])
def test_a_healthy_database_plays_along(database: str, request: pytest.FixtureRequest) -> None:
    """On a legacy database and on an empty one nothing goes wrong, every scene is played, and nothing is left."""
    played = []
    with connected(request.getfixturevalue(database)) as connection, pytest.MonkeyPatch.context() as patch:
        subject = verify.subject_at(connection, HEAD)
        before = _state(connection)
        patch.setattr(exercise, "SCENES", tuple(_noted(scene, played) for scene in exercise.SCENES))
        assert exercise.run(subject) == []
        assert _state(connection) == before
    assert played == [
        "a_lawyer_rises", "a_user_buys_credits", "a_case_is_declined", "an_enterprise_subscribes",
    ]  # fmt: skip


def _noted(scene: Scene, played: list[str]) -> Scene:
    """Return the scene, which notes that it was played to its end."""

    def play(stage: exercise.Stage, user: object, case: object) -> None:
        scene.play(stage, user, case)
        played.append(scene.name)

    return Scene(scene.name, scene.tables, play, scene.with_case)


DAMAGES = {
    "lawyer_point_transactions.points_after": """
        ALTER TABLE lawyer_point_transactions DROP CONSTRAINT ck_lawyer_point_transactions_points_after""",
    "lawyer_level_details.current_level": """
        ALTER TABLE lawyer_level_details DROP CONSTRAINT fk_lawyer_level_details_current_level_lawyer_levels""",
    "lawyer_levels.requirements": """
        UPDATE lawyer_levels SET requirements = '{"level_points": 1, "cases_completed": 1}' WHERE level = 3""",
    "update_lawyer_level_details_updated_at on lawyer_level_details": """
        ALTER TABLE lawyer_level_details DISABLE TRIGGER USER""",
    "update_user_credits_updated_at on user_credits": "ALTER TABLE user_credits DISABLE TRIGGER USER",
    "lawyer_performance_summary": """
        CREATE OR REPLACE VIEW lawyer_performance_summary AS
        SELECT NULL::uuid AS lawyer_id, NULL::varchar(255) AS username, NULL::varchar(255) AS full_name,
               1 AS current_level, NULL::varchar(50) AS level_name, 1 AS cases_completed,
               NULL::numeric(5,2) AS success_rate, NULL::numeric(3,2) AS client_rating,
               NULL::numeric(15,2) AS total_revenue, true AS upgrade_eligible""",
    "enterprise_clients": """
        ALTER TABLE enterprise_subscriptions
            DROP CONSTRAINT fk_enterprise_subscriptions_client_id_enterprise_clients,
            ADD FOREIGN KEY (client_id) REFERENCES enterprise_clients(id)""",
    "lawyer_case_declines.priority_impact": """
        ALTER TABLE lawyer_case_declines ALTER COLUMN priority_impact SET DEFAULT 0""",
    "case_invitations": "ALTER TABLE case_invitations ADD COLUMN more integer NOT NULL",
    "case_matching_stats": """
        CREATE OR REPLACE VIEW case_matching_stats AS
        SELECT id AS case_id, case_amount, status, 0::bigint AS invitations_sent, 0::bigint AS invitations_accepted,
               0::bigint AS invitations_declined, 0::numeric AS avg_match_score
        FROM cases""",
    **{
        f"{table}.{constraint}": f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"
        for table, constraint in (
            ("credit_purchase_records", "ck_credit_purchase_records_credits_count"),
            ("credit_purchase_records", "ck_credit_purchase_records_status"),
            ("user_credits", "ck_user_credits_credits_remaining"),
            ("case_invitations", "uq_case_invitations_case_id_lawyer_id"),
            ("case_invitations", "ck_case_invitations_status"),
            ("enterprise_subscriptions", "ck_enterprise_subscriptions_end_date"),
            ("enterprise_subscriptions", "fk_enterprise_subscriptions_package_id"),
        )
    },
}


@pytest.mark.parametrize("named", tried_once(DAMAGES, keep=6))
def test_what_would_not_work_is_found(named: str, upgraded: Server) -> None:
    """Each damage to what the scenes rely on is an error that names it."""
    with connected(upgraded) as connection:
        connection.exec_driver_sql(DAMAGES[named])
        found = exercise.run(verify.subject_at(connection, HEAD))
    assert (named, ERROR) in [(one.subject, one.severity) for one in found]


def test_triggers_of_others_keep_still(upgraded: Server) -> None:
    """What others hung on our tables neither fires nor stays switched off."""
    with connected(upgraded) as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'not you'; END$$;"
            'CREATE TRIGGER "a ""trigger"": b" BEFORE INSERT OR UPDATE ON user_credits'
            " FOR EACH ROW EXECUTE FUNCTION no();"
            'ALTER TABLE user_credits ENABLE ALWAYS TRIGGER "a ""trigger"": b"'
        )
        assert exercise.run(verify.subject_at(connection, HEAD)) == []
        enabled = "SELECT tgenabled FROM pg_trigger WHERE tgname LIKE 'a%%trigger%%'"
        assert connection.exec_driver_sql(enabled).scalar_one() == "A"


@pytest.mark.variant
def test_a_row_that_somebody_holds_is_a_warning(
    make_database, upgraded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application may hold the one row we chose: that is no reason to take an upgrade back."""
    server = make_database(upgraded)
    monkeypatch.setattr(exercise, "SCENES", exercise.SCENES[:1])  # each waits its two seconds
    with connected(server) as holder, connected(server) as connection:
        holder.exec_driver_sql("SELECT FROM users FOR UPDATE")
        found = exercise.run(verify.subject_at(connection, HEAD))
    assert found
    assert {one.severity for one in found} == {WARNING}


@pytest.mark.parametrize("family", [*plan.families()])
def test_every_family_can_be_the_last(family: str, upgraded: Server) -> None:
    """At an earlier revision only those scenes are played that its tables are there for."""
    with connected(upgraded) as connection:
        assert exercise.run(verify.subject_at(connection, plan.resolve(family))) == []


def test_what_goes_wrong_takes_the_upgrade_back(
    legacy: Server, settings_for: SettingsFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tool migrate` plays the scenes before COMMIT, and nothing becomes visible when one fails."""

    def play(stage: exercise.Stage, user: object, _case: object) -> None:
        stage.do("UPDATE user_credits SET credits_remaining = 7 WHERE user_id = :user", user=user)
        stage.expect("user_credits", 8, "SELECT 7")

    monkeypatch.setattr(exercise, "SCENES", (Scene("broken", ("user_credits",), play),))
    run = attempt(settings_for(legacy))
    assert (run.exit_code, run.database) == (9, "rolled back")
    assert [one.subject for one in run.findings if one.severity == ERROR] == ["user_credits"]
    assert query(legacy, "SELECT to_regclass('public.user_credits')") is None
