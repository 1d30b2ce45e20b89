"""Which side wins where both have a row and they differ, and what matched users take over."""

from __future__ import annotations

import pytest

from tests.fixtures.pagtive import figures, imported, uid
from tests.fixtures.tiers import tried_once


@pytest.fixture
def shared(settings, source, target):
    """Import one user, one project and one page; return the project's id."""
    project = source.project(1, source.user(1), project_name="imported")
    source.page(project, 1, html="imported")
    source.log(1, uid(1), status="pending")
    source.code(1, "A")
    imported(settings)
    assert target.one("SELECT project_name FROM pagtive_projects") == "imported"
    return project


def change_source(source, when):
    """Change the project in the source."""
    source.run("UPDATE projects SET project_name = 'source', updated_at = %s", when)


def change_target(target, when=None):
    """Edit the project in the target, as an application does: our trigger sets updated_at unless it is given."""
    target.run("UPDATE pagtive_projects SET project_name = 'target'" + (f", updated_at = '{when}'" if when else ""))


@pytest.mark.parametrize(
    ("option", "older", "newer"),
    [
        ("newer", "target", "source"),
        pytest.param("source", "source", "source", marks=pytest.mark.variant),
        pytest.param("keep", "target", "target", marks=pytest.mark.variant),
    ],
)
def test_rows_that_both_sides_changed(settings, source, target, shared, option, older, newer):  # noqa: PLR0917
    """The newer one wins, or the side that the operator named; then a further import changes nothing."""
    second = source.project(2, uid(1), project_name="imported")
    imported(settings)
    target.run("UPDATE pagtive_projects SET project_name = 'target'")
    source.run("UPDATE projects SET project_name = 'source', updated_at = '2024-05-01' WHERE id = %s", shared)
    source.run("UPDATE projects SET project_name = 'source', updated_at = '2030-01-01' WHERE id = %s", second)
    run = imported(settings, on_conflict=option)
    found = dict(target.run("SELECT id::text, project_name FROM pagtive_projects"))
    assert found == {shared: older, second: newer}
    kept = [older, newer].count("target")
    assert run.result["kept"] == ({"projects": kept} if kept else {})
    assert run.result["tables"]["projects"]["updated"] == 2 - kept
    assert figures(imported(settings, on_conflict=option), "projects") == {"read": 2, "unchanged": 2}


@pytest.mark.parametrize("option", ["newer", pytest.param("source", marks=pytest.mark.variant)])
def test_a_newer_source_row(settings, source, target, shared, option):
    """A row that only the source changed comes over, and carries the source's time."""
    change_source(source, "2024-09-09 08:00")
    run = imported(settings, on_conflict=option)
    assert figures(run, "projects") == {"read": 1, "updated": 1}
    stands = "SELECT project_name, (updated_at AT TIME ZONE 'UTC')::text FROM pagtive_projects WHERE id = %s"
    assert target.run(stands, shared) == [("source", "2024-09-09 00:00:00")]


@pytest.mark.variant
def test_a_row_changed_in_the_target_only(settings, target, shared, touched):
    """The source has not moved: the edit stays, and not even the row version changes."""
    change_target(target)
    before = touched()
    run = imported(settings)
    assert figures(run, "projects") == {"read": 1, "unchanged": 1}
    assert run.result["kept"] == {"projects": 1}
    assert touched() == before
    assert target.one("SELECT project_name FROM pagtive_projects WHERE id = %s", shared) == "target"


@pytest.mark.variant
def test_a_source_that_does_not_keep_its_times(settings, source, target, shared):
    """Changed under the same updated_at: it comes over, with that time, as long as nobody has edited the row here."""
    source.run("UPDATE projects SET project_name = 'source'")
    run = imported(settings)
    assert figures(run, "projects") == {"read": 1, "updated": 1}
    stands = "SELECT project_name, (updated_at AT TIME ZONE 'Asia/Shanghai')::text FROM pagtive_projects WHERE id = %s"
    assert target.run(stands, shared) == [("source", "2024-02-02 00:00:00")]
    assert figures(imported(settings), "projects") == {"read": 1, "unchanged": 1}
    change_target(target, "2024-02-02 00:00:00+08")
    source.run("UPDATE projects SET project_name = 'source again'")
    assert imported(settings).result["kept"] == {"projects": 1}


@pytest.mark.variant
def test_a_source_without_times(settings, source, target):
    """Neither time is known: a change comes over as long as nobody has edited the row here."""
    source.project(1, source.user(1), created_at=None, updated_at=None)
    imported(settings)
    created = target.one("SELECT created_at FROM pagtive_projects")
    source.run("UPDATE projects SET project_name = 'source'")
    assert figures(imported(settings), "projects")["updated"] == 1
    assert figures(imported(settings), "projects")["unchanged"] == 1
    assert target.run("SELECT created_at = %s, updated_at > created_at FROM pagtive_projects", created) == [
        (True, True)
    ]
    change_target(target)
    source.run("UPDATE projects SET project_name = 'source again'")
    assert imported(settings).result["kept"] == {"projects": 1}


def test_a_source_that_went_back(settings, source, target, shared):
    """A source restored from an older backup does not undo what newer imports brought."""
    source.run("UPDATE projects SET project_name = 'older', updated_at = '2023-01-01'")
    assert imported(settings).result["kept"] == {"projects": 1}
    assert target.one("SELECT project_name FROM pagtive_projects WHERE id = %s", shared) == "imported"


def test_pages_logs_and_codes_follow_the_same_rule(settings, source, target, shared):
    """A log is as new as its answer, a code as its use."""
    source.run("UPDATE project_details SET html = 'source', updated_at = '2024-09-01'")
    source.run("UPDATE llmlog SET status = 'success', response_timestamp = '2024-04-02', response_content = 'answer'")
    source.run("UPDATE invitation_codes SET status = 'used', used_at = '2024-06-01', used_by_user_id = %s", uid(1))
    run = imported(settings)
    for name in ("project_details", "llm_logs", "invitation_codes"):
        assert figures(run, name) == {"read": 1, "updated": 1}
    assert target.one("SELECT html FROM pagtive_project_details WHERE project_id = %s", shared) == "source"
    assert target.run("SELECT status, response_content FROM pagtive_llm_logs") == [("success", "answer")]
    target.run("UPDATE pagtive_invitation_codes SET status = 'expired', used_at = '2025-01-01'")
    target.run("UPDATE pagtive_llm_logs SET status = 'failed'")
    run = imported(settings)
    assert run.result["kept"] == {"invitation_codes": 1, "llm_logs": 1}
    source.run("UPDATE llmlog SET response_content = 'late', response_timestamp = '2024-04-03'")
    assert figures(imported(settings), "llm_logs") == {"read": 1, "updated": 1}


@pytest.mark.variant
def test_a_project_that_changed_hands(settings, source, target, shared):
    """The owner is a value like any other."""
    second = source.user(2)
    source.run("UPDATE projects SET user_id = %s, updated_at = '2024-09-01'", second)
    imported(settings)
    assert target.one("SELECT user_id::text FROM pagtive_projects WHERE id = %s", shared) == second


@pytest.mark.variant
def test_the_id_of_a_page_stays(settings, source, target, shared):
    """An update keeps the target's own key, and columns that the source does not have."""
    before = target.one("SELECT id FROM pagtive_project_details")
    target.run("UPDATE pagtive_projects SET reference_files = '[1]', updated_at = updated_at + interval '1 second'")
    source.run("UPDATE project_details SET html = 'source', updated_at = '2024-09-01'")
    change_source(source, "2024-09-01")
    imported(settings)
    assert target.one("SELECT id FROM pagtive_project_details") == before
    found = target.run("SELECT project_name, reference_files FROM pagtive_projects WHERE id = %s", shared)
    assert found == [("source", [1])]


QUIET = "ALTER TABLE users DISABLE TRIGGER USER"
"""The sample's neighbours have a trigger on users that sets updated_at on every change."""


def whole(target, user):
    """Return the row of a user, without what matched users take over."""
    row = target.one("SELECT to_jsonb(u) FROM users u WHERE id = %s", user)
    return {name: value for name, value in row.items() if name not in {"status", "role", "agreed_agreement_version"}}


def taken(target, user):
    """Return what matched users take over."""
    return target.run("SELECT status::text, role, agreed_agreement_version FROM users WHERE id = %s", user)[0]


def test_matched_users_take_over_three_columns(settings, source, target):
    """Status, role and agreed version where the source has them; everything else of the user stays."""
    user = target.lawsker_user(1, email="a@example.com", role="admin", agreed_agreement_version="old")
    other = target.lawsker_user(2, email="b@example.com", role="admin", agreed_agreement_version="old")
    target.run(QUIET)
    before = whole(target, user)
    source.user(1, email="A@example.com", status=2, role="verified", agreed_agreement_version="v2", name="其他")
    source.user(2, email="b@example.com", status=None, role=None, agreed_agreement_version=None)
    run = imported(settings)
    assert figures(run, "users") == {"read": 2, "updated": 1, "unchanged": 1}
    assert taken(target, user) == ("BANNED", "user", "v2")
    assert taken(target, other) == ("ACTIVE", "admin", "old")
    assert whole(target, user) == before
    assert target.one("SELECT count(*) FROM user_accounts") == run.result["accounts_created"] == 0


ROLES = [
    ("user", "admin", "user"),
    ("user", "super_admin", "user"),
    ("admin", "super_admin", "admin"),
    ("admin", "admin", "admin"),
    ("super_admin", "admin", "admin"),
    ("admin", "user", "user"),
    ("user", "verified", "user"),
    ("admin", None, "admin"),
]
"""Role in the target, in the source, and after an import."""


@pytest.mark.variant
def test_roles_rise_only_when_allowed(settings, source, target):
    """A role that would rise is withheld and reported, run after run, until it is allowed; the rest is taken over."""
    users, withheld = [], []
    for number, (there, here, _) in enumerate(ROLES, start=1):
        users.append(target.lawsker_user(number, email=f"{number}@x.com", role=there))
        person = source.user(number, email=f"{number}@x.com", role=here, agreed_agreement_version="v2")
        if number <= 3:
            withheld.append({"source_id": person, "user_id": users[-1], "from": there, "to": here})
    for _ in range(2):
        run = imported(settings)
        assert [taken(target, user) for user in users] == [("ACTIVE", role, "v2") for _, _, role in ROLES]
        assert run.result["role_escalations_withheld"] == 3
        assert run.result["role_escalations"] == withheld
    run = imported(settings, allow_role_escalation=True)
    assert [taken(target, user)[1] for user in users[:3]] == ["admin", "super_admin", "super_admin"]
    assert run.result["role_escalations_withheld"] == 0


@pytest.mark.variant
def test_new_users_bring_their_role(settings, source, target):
    """Somebody who did not exist before may be an admin; but later it may not rise unless allowed."""
    person = source.user(1, role="admin")
    imported(settings)
    assert taken(target, person)[1] == "admin"
    source.run("UPDATE users SET role = 'super_admin', updated_at = '2030-01-01'")
    assert imported(settings).result["role_escalations_withheld"] == 1
    assert taken(target, person)[1] == "admin"


@pytest.mark.parametrize(("option", "status"), [("newer", "BANNED"), ("source", "BANNED"), ("keep", "ACTIVE")])
def test_first_match_of_a_user(settings, source, target, option, status):
    """Matched for the first time, a user takes over whatever the times say, unless the target is to be kept."""
    user = target.lawsker_user(1, email="a@example.com", updated_at="2029-01-01+00")
    source.user(1, email="a@example.com", status=2)
    imported(settings, on_conflict=option)
    assert taken(target, user)[0] == status


SINCE = [
    (None, "2024-09-01", {"newer": "BANNED", "source": "BANNED", "keep": "ACTIVE"}),
    (None, "2024-01-02", {"newer": "BANNED", "source": "BANNED", "keep": "ACTIVE"}),
    ("2024-10-01", "2024-09-01", {"newer": "PENDING", "source": "BANNED", "keep": "PENDING"}),
    ("2024-10-01", "2024-11-01", {"newer": "BANNED", "source": "BANNED", "keep": "PENDING"}),
]
"""When the target was edited since the import, what time the source's change carries, and the status afterwards."""


@pytest.mark.parametrize("option", tried_once(["newer", "source", "keep"]))
def test_users_imported_before(settings, source, target, option):
    """Edited here since the import, the newer wins; else the source's status comes, newer or of the same time."""
    target.run(QUIET)
    users = [target.lawsker_user(number, email=f"user{number}@pagtive.example") for number in range(4)]
    people = [source.user(number) for number in range(8)]
    users += people[4:]
    imported(settings)
    for number, (edit, when, _) in enumerate(SINCE * 2):
        if edit:
            edited = "UPDATE users SET status = 'PENDING', updated_at = %s WHERE id = %s"
            target.run(edited, f"{edit}+00", users[number])
        source.run("UPDATE users SET status = 2, updated_at = %s WHERE id = %s", when, people[number])
    imported(settings, on_conflict=option)
    assert [taken(target, user)[0] for user in users] == [status[option] for _, _, status in SINCE * 2]
    assert figures(imported(settings, on_conflict=option), "users") == {"read": 8, "unchanged": 8}


@pytest.mark.variant
def test_an_edit_that_left_the_time_as_it_was(settings, source, target):
    """A user edited here without a new updated_at counts as edited: a source row of the same time does not win."""
    target.run(QUIET)
    person = source.user(1)
    imported(settings)
    target.run("UPDATE users SET status = 'PENDING' WHERE id = %s", person)
    assert imported(settings).result["kept"] == {"users": 1}
    assert taken(target, person)[0] == "PENDING"


def test_an_edit_after_a_newer_source_was_imported(settings, source, target):
    """Edited here without a new updated_at: what was imported before does not win once more, what comes later does."""
    target.run(QUIET)
    matched = target.lawsker_user(1, email="a@example.com")
    people = [source.user(1, email="a@example.com"), source.user(2)]
    imported(settings)
    source.run("UPDATE users SET status = 0, updated_at = '2024-06-01' WHERE id = %s", people[1])
    imported(settings)
    target.run("UPDATE users SET status = 'BANNED'")
    assert imported(settings).result["kept"] == {"users": 2}
    assert [taken(target, user)[0] for user in (matched, people[1])] == ["BANNED", "BANNED"]
    source.run("UPDATE users SET status = 0, updated_at = '2024-06-02'")
    assert figures(imported(settings), "users") == {"read": 2, "updated": 2}


@pytest.mark.parametrize("trigger", ["DISABLE", "ENABLE"])
def test_users_without_times(settings, source, target, trigger):
    """The source's changes come over as long as nobody has edited the user here."""
    target.run(f"ALTER TABLE users {trigger} TRIGGER USER")
    people = [source.user(number, created_at=None, updated_at=None) for number in range(2)]
    imported(settings)
    source.run("UPDATE users SET status = 2")
    target.run("UPDATE users SET status = 'PENDING' WHERE id = %s", people[1])
    run = imported(settings)
    assert figures(run, "users") == {"read": 2, "updated": 1, "unchanged": 1}
    assert run.result["kept"] == {"users": 1}
    assert [taken(target, user)[0] for user in people] == ["BANNED", "PENDING"]


@pytest.mark.variant
def test_times_of_a_session_in_another_zone(settings, source, target, shared):
    """What was recorded of a row does not depend on the session's settings: an unedited row is known again."""
    target.run(f"ALTER DATABASE {settings.target.database} SET timezone = 'Asia/Tokyo'")
    target.run(f"ALTER DATABASE {settings.target.database} SET datestyle = 'German'")
    source.run("UPDATE projects SET project_name = 'source'")
    assert figures(imported(settings), "projects") == {"read": 1, "updated": 1}
    assert target.one("SELECT project_name FROM pagtive_projects WHERE id = %s", shared) == "source"


def test_other_peoples_triggers_fire_and_stay(settings, source, target):
    """A trigger of others on users sees what the import writes, as any write; it is enabled as before."""
    target.run("CREATE TABLE public.seen (what text, who uuid)")
    target.run(
        "CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
        " INSERT INTO public.seen VALUES (TG_OP, NEW.id); NEW.updated_at = now(); RETURN NEW; END$$"
    )
    target.run("CREATE TRIGGER see BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION public.see()")
    target.run("CREATE TRIGGER see_new AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION public.see()")
    user = target.lawsker_user(1, email="a@example.com")
    target.run("DELETE FROM public.seen")
    source.user(1, email="a@example.com", status=2)
    created = source.user(2)
    imported(settings)
    assert sorted(target.run("SELECT what, who::text FROM public.seen")) == [("INSERT", created), ("UPDATE", user)]
    assert target.run("SELECT DISTINCT tgenabled FROM pg_trigger WHERE tgname IN ('see', 'see_new')") == [("O",)]
    assert figures(imported(settings), "users") == {"read": 2, "unchanged": 2}


TAKES = "SELECT status::text, role::text FROM users WHERE registration_source = 'pagtive'"


def test_a_trigger_that_moves_the_time_is_nobodys_change(settings, source, target):
    """What the source changed between its snapshot and our write is brought by the next import."""
    source.user(1)
    imported(settings)
    source.run("UPDATE users SET status = 0, updated_at = '2024-06-01'")
    assert figures(imported(settings), "users") == {"read": 1, "updated": 1}
    assert target.one("SELECT updated_at > '2025-01-01' FROM users WHERE registration_source = 'pagtive'")
    source.run("UPDATE users SET status = 2, updated_at = '2024-06-02'")
    assert figures(imported(settings), "users") == {"read": 1, "updated": 1}
    assert target.run(TAKES) == [("BANNED", "user")]
    target.run("UPDATE users SET phone_number = '13800000000' WHERE registration_source = 'pagtive'")
    source.run("UPDATE users SET status = 1, updated_at = '2024-06-03'")
    run = imported(settings)
    assert run.result["kept"] == {"users": 1}
    assert target.run(TAKES) == [("BANNED", "user")]


def test_a_withheld_role_can_be_allowed_later(settings, source, target):
    """Although the import that withheld it has written the row."""
    source.user(1)
    imported(settings)
    source.run("UPDATE users SET role = 'admin', status = 0, updated_at = '2024-06-01'")
    imported(settings)
    assert target.run(TAKES) == [("INACTIVE", "user")]
    imported(settings, allow_role_escalation=True)
    assert target.run(TAKES) == [("INACTIVE", "admin")]


def test_people_who_get_another_status_or_role_are_named(settings, source, target):
    """Not only a role that would rise: also one that falls, and a status; of people who were here before Pagtive."""
    target.run("UPDATE users SET email = NULL")
    people = {
        target.lawsker_user(1, email="a@x.com", status="BANNED", role="admin"): "BANNED -> ACTIVE, admin -> user",
        target.lawsker_user(2, email="b@x.com"): "ACTIVE -> INACTIVE",
    }
    target.lawsker_user(3, email="c@x.com")
    source.user(1, email="A@x.com", role="user")
    source.user(2, email="b@x.com", status=0)
    source.user(3, email="c@x.com")
    source.user(4)
    run = imported(settings)
    assert run.result["users_changed"] == 2
    assert {one["user_id"]: one["change"] for one in run.result["user_changes"]} == people
    source.run("UPDATE users SET status = 2, updated_at = '2030-01-01' WHERE id = %s", uid(4))
    assert imported(settings).result["users_changed"] == 0


def test_which_of_two_equal_pages_is_first_does_not_change(settings, source, touched):
    """Wherever the source has put its rows meanwhile."""
    source.run("ALTER TABLE project_details ALTER page_id TYPE text")
    project = source.project(1, source.user(1))
    for number, html in (("1", "甲"), ("01", "乙"), ("001", "丙")):
        source.page(project, number, html=html)
    imported(settings)
    before = touched()
    for html in ("甲", "乙", "丙"):
        source.run("UPDATE project_details SET script = script WHERE html = %s", html)
        run = imported(settings)
        assert figures(run, "project_details") == {"read": 3, "unchanged": 1, "quarantined": 2}
    assert touched() == before
