"""``tool pagtive import --retry-rejects``: what is open in quarantine is read again, and settled once."""

from __future__ import annotations

import pytest

from datamigrations import quarantine
from datamigrations.pagtive import ImportOptions, import_pagtive
from datamigrations.quarantine import rejects
from datamigrations.undo import undo_run
from rollout.run import Listener, Run
from tests.fixtures.pagtive import attempt_import, figures, imported, uid


def listed(settings, *arguments, **options):
    """Return table and key of quarantined rows."""
    return [(row["table_name"], row["source_key"]) for row in rejects(settings, *arguments, **options)]


@pytest.fixture
def broken(settings, source):
    """Import a source with one good user, and a bad one with a project and a page; return the run."""
    source.user(1)
    source.user(2, role="root")
    source.page(source.project(2, uid(2)), 1)
    source.user(3, role="root")
    return imported(settings)


OPEN = [("users", uid(2)), ("users", uid(3)), ("projects", uid(2, 1)), ("project_details", f"{uid(2, 1)}/1")]


def test_mended_rows_come_with_what_depends_on_them(settings, source, target, broken):
    """Only they are read; what is still wrong is open once; what was settled is kept."""
    assert listed(settings) == OPEN
    source.run("UPDATE users SET role = 'user' WHERE id = %s", uid(2))
    source.user(4)
    run = imported(settings, retry_rejects=True)
    assert run.result["retried"] == len(OPEN)
    assert figures(run, "users") == {"read": 2, "inserted": 1, "quarantined": 1}
    assert figures(run, "projects") == figures(run, "project_details") == {"read": 1, "inserted": 1}
    assert listed(settings) == [("users", uid(3))]
    assert listed(settings, everything=True) == [*OPEN, ("users", uid(3))]
    assert listed(settings, broken.run_id) == OPEN
    assert target.one("SELECT count(*) FROM pagtive_user_map") == 2


@pytest.mark.usefixtures("broken")
def test_a_second_retry_has_nothing_to_do(settings, source, touched):
    """Once all is settled nothing is read, and no row is touched."""
    source.run("UPDATE users SET role = 'user'")
    imported(settings, retry_rejects=True)
    before = touched()
    run = imported(settings, retry_rejects=True)
    assert (run.result["retried"], run.database, listed(settings)) == (0, "untouched", [])
    assert touched() == before


@pytest.mark.variant
@pytest.mark.usefixtures("broken")
def test_a_dry_run_settles_nothing(settings, source, target):
    """The figures are those of the retry; everything stays as it was."""
    source.run("UPDATE users SET role = 'user'")
    before = target.contents()
    run = imported(settings, retry_rejects=True, dry_run=True)
    assert figures(run, "users") == {"read": 2, "inserted": 2}
    assert (listed(settings), target.contents()) == (OPEN, before)


@pytest.mark.variant
@pytest.mark.usefixtures("broken")
def test_undo_opens_again(settings, source):
    """What the retry had settled is open again, what it had put in quarantine is not."""
    source.run("UPDATE users SET role = 'user' WHERE id = %s", uid(2))
    retry = imported(settings, retry_rejects=True)
    undo_run(settings, Run("pagtive undo"), retry.run_id)
    assert listed(settings) == OPEN


@pytest.mark.variant
@pytest.mark.usefixtures("broken")
def test_undo_lists_nothing_twice(settings, source):
    """What a later run has put in quarantine anew does not come up a second time when an earlier one is undone."""
    source.run("UPDATE users SET role = 'user' WHERE id = %s", uid(2))
    retry = imported(settings, retry_rejects=True)
    assert imported(settings).database == "untouched"
    undo_run(settings, Run("pagtive undo"), retry.run_id)
    assert sorted(listed(settings)) == sorted(OPEN)


@pytest.mark.variant
@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_a_duplicate_does_not_take_its_rivals_place(settings, source, target):
    """A page ``01`` that is retried is still the duplicate of ``1``, which stays as it is."""
    source.user(1)
    project = source.project(1, uid(1))
    source.page(project, "1", html="first")
    source.page(project, "01", html="second", created_at="2024-03-03", updated_at="2025-01-01")
    imported(settings)
    assert listed(settings) == [("project_details", f"{project}/01")]
    run = imported(settings, retry_rejects=True)
    assert figures(run, "project_details") == {"read": 2, "unchanged": 1, "quarantined": 1}
    assert target.run("SELECT html FROM pagtive_project_details") == [("first",)]
    assert listed(settings) == [("project_details", f"{project}/01")]


def test_a_retried_twin_does_not_speak_for_a_user(settings, source, target):
    """Somebody of an earlier import does, also when a retry does not read that row."""
    source.user(1, email="a@example.com", agreed_agreement_version="v1")
    source.user(2, email="A@example.com", role="root", status=2, agreed_agreement_version="v2")
    imported(settings)
    source.run("UPDATE users SET role = 'user'")
    assert figures(imported(settings, retry_rejects=True), "users") == {"read": 1, "merged": 1}
    assert target.matched() == {uid(1): "created", uid(2): "merged"}
    user = "SELECT status::text, agreed_agreement_version FROM users WHERE id = %s"
    assert target.run(user, uid(1)) == [("ACTIVE", "v1")]
    assert imported(settings).database == "untouched"


@pytest.mark.variant
def test_a_twin_of_somebody_who_does_not_fit_today(settings, source, target):
    """Whoever speaks for a user goes on doing so: a row that is spoilt for a while changes nothing."""
    source.user(1, email="a@example.com", agreed_agreement_version="v1")
    imported(settings)
    source.run("UPDATE users SET role = 'root'")
    source.user(2, email="A@example.com", status=2)
    assert figures(imported(settings), "users") == {"read": 2, "merged": 1, "quarantined": 1}
    source.run("UPDATE users SET role = 'user'")
    assert imported(settings).database == "untouched"
    assert target.one("SELECT status::text FROM users WHERE id = %s", uid(1)) == "ACTIVE"


@pytest.mark.variant
@pytest.mark.usefixtures("broken")
def test_only_a_whole_import_settles_rows_that_are_gone(settings, source):
    """A row under another key cannot be told from one that was deleted: it stays open, and that is said."""
    source.run("DELETE FROM users WHERE id = %s", uid(3))
    imported(settings, retry_rejects=True)
    assert ("users", uid(3)) in listed(settings)
    imported(settings)
    assert ("users", uid(3)) not in listed(settings)


def decisions(*given):
    """Return decisions as the file's reader does."""
    return [
        {"line": str(line), "source_id": one, "action": action, "target": ""}
        for line, (one, action) in enumerate(given)
    ]


def test_who_was_skipped_stays_so(settings, source, target):
    """A retry brings what was mended, not whom a person decided to skip, and says so; a new decision brings them."""
    source.user(1)
    source.project(2, source.user(2, role="root"))
    source.project(3, source.user(3))
    imported(settings, decisions=decisions((uid(3), "skip")))
    source.run("UPDATE users SET role = 'user'")
    heard = notes(settings)
    assert any(line.startswith("1 user(s) skipped by decision stay so") for line in heard)
    assert not any("had no key" in line for line in heard)
    assert target.matched() == {uid(1): "created", uid(2): "created"}
    assert listed(settings) == [("users", uid(3)), ("projects", uid(3, 1))]
    source.run("DELETE FROM projects WHERE id = %s", uid(3, 1))
    imported(settings)
    assert uid(3) not in target.matched()


def test_a_new_decision_on_somebody_skipped(settings, source, target):
    """A retry reads whom its file names: again skipped, they are open once; created, they come with their projects."""
    source.project(3, source.user(3))
    imported(settings, decisions=decisions((uid(3), "skip")))
    run = imported(settings, retry_rejects=True, decisions=decisions((uid(3), "skip")))
    assert figures(run, "users") == {"read": 1, "quarantined": 1}
    assert sorted(listed(settings)) == sorted([("users", uid(3)), ("projects", uid(3, 1))])
    run = imported(settings, retry_rejects=True, decisions=decisions((uid(3), "create")))
    assert figures(run, "users") == figures(run, "projects") == {"read": 1, "inserted": 1}
    assert (target.matched(), listed(settings)) == ({uid(3): "created"}, [])


@pytest.mark.parametrize("options", [{"retry_rejects": True}, {"limit_users": 1}])
def test_the_file_again_on_a_part_of_the_users(settings, source, options):
    """Decisions on users whom such a run does not read are counted, not refused; those on rows it reads still are."""
    source.user(1, created_at="2024-01-01")
    source.user(2, created_at="2024-01-02")
    decided = decisions((uid(2), "skip"), ("nobody", "skip"))
    refused = attempt_import(settings, decisions=decided)
    assert (refused.exit_code, "1: nobody" in refused.error.message) == (6, True)
    source.run("UPDATE users SET role = 'root' WHERE id = %s", uid(1))
    imported(settings, decisions=decided[:1])
    heard = notes(settings, decisions=decided, **options)
    left = 2 if "limit_users" in options else 1
    assert any(line.startswith(f"{left} decision(s) were not looked at") for line in heard)


class Notes(Listener):
    """Keeps what is said."""

    def __init__(self):
        """Begin with nothing."""
        self.heard = []

    def note(self, message):
        """Keep a line."""
        self.heard.append(str(message))


def notes(settings, **options):
    """Retry, or what ``options`` say; return what was said."""
    heard = Notes()
    options = options or {"retry_rejects": True}
    import_pagtive(settings, Run("pagtive import", listener=heard), ImportOptions(**options))
    return heard.heard


@pytest.mark.variant
@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_rows_without_a_key_wait_for_a_whole_import(settings, source):
    """Of two pages without a number one is mended: a retry cannot tell them apart, loses neither, and says so."""
    source.user(1)
    project = source.project(1, uid(1))
    source.run("ALTER TABLE project_details DROP CONSTRAINT IF EXISTS project_details_pkey")
    source.run("ALTER TABLE project_details ALTER page_id DROP NOT NULL")
    source.page(project, None, html="a")
    source.page(project, None, html="b")
    source.user(2, role="root")
    imported(settings)
    source.run("UPDATE project_details SET page_id = '1' WHERE html = 'a'")
    source.run("UPDATE users SET role = 'user'")
    assert any(line.startswith("2 row(s) that had no key") for line in notes(settings))
    assert listed(settings) == [("project_details", f"{project}/")] * 2
    assert any("nothing to retry" in line for line in notes(settings))
    assert figures(imported(settings), "project_details") == {"read": 2, "inserted": 1, "quarantined": 1}
    assert listed(settings) == [("project_details", f"{project}/")]


@pytest.mark.variant
@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_keys_are_asked_for_in_batches(settings, source, monkeypatch):
    """However many keys are open, each row is read once, and no other; a key may have slashes."""
    monkeypatch.setattr(quarantine, "_KEYS", 1)
    good = source.project(9, source.user(9))
    for number in range(5):
        source.project(number, source.user(number, role="root"))
        source.page(good, f"{number}/2")
    source.page(good, "7", created_at="2024-03-03", updated_at="2025-01-01")
    source.page(good, "07")
    source.page("a/b", "1")
    open_now = 5 + 5 + 5 + 1 + 1
    imported(settings)
    assert len(listed(settings)) == open_now
    source.run("UPDATE users SET role = 'user'")
    source.user(8)
    source.page(good, "8")
    run = imported(settings, retry_rejects=True)
    assert run.result["retried"] == open_now
    assert figures(run, "users") == figures(run, "projects") == {"read": 5, "inserted": 5}
    counts = figures(run, "project_details")
    assert (counts["quarantined"], counts["unchanged"], counts.get("inserted")) == (7, 1, 1)
    assert counts["read"] == 5 + 1 + 3


def test_undo_of_a_run_between_opens_nothing_that_was_taken_since(settings, source):
    """A row that was in quarantine twice and came in at last stays settled, whichever of the earlier runs is undone."""
    project = source.project(1, source.user(1), project_name="x" * 256)
    imported(settings)
    source.project(2, uid(1))
    between = imported(settings)
    source.run("UPDATE projects SET project_name = 'ok' WHERE id = %s", project)
    last = imported(settings)
    assert listed(settings) == []
    undo_run(settings, Run("pagtive undo"), between.run_id)
    assert listed(settings) == []
    undo_run(settings, Run("pagtive undo"), last.run_id)
    assert listed(settings) == [("projects", project)]


def test_who_was_skipped_stays_so_in_a_whole_import_too(settings, source, target):
    """Without the file too, until one says otherwise: nobody is made of somebody whom a person ruled out."""
    source.user(0xABC)
    source.project(1, uid(0xABC))
    imported(settings, decisions=decisions((uid(0xABC), "skip")))
    assert any("1 user(s) skipped by an earlier decision stay so" in line for line in notes(settings, dry_run=True))
    run = imported(settings)
    assert figures(run, "users") == {"read": 1, "quarantined": 1}
    assert run.result["reasons"] == {"skipped_by_decision": 1, "unknown_user": 1}
    assert target.matched() == {}
    imported(settings, decisions=decisions((uid(0xABC), "create")))
    assert target.matched() == {uid(0xABC): "created"}
    assert figures(imported(settings), "users") == {"read": 1, "unchanged": 1}
