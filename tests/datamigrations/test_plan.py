"""``tool pagtive plan``: the identity plan is what the import then does, changes nothing, and keeps addresses apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from commands.views import lines_of
from datamigrations.pagtive import ImportOptions, plan_pagtive
from rollout.errors import RolloutError
from rollout.memory import runs
from rollout.presentation import Speaker
from rollout.run import Run
from tests.fixtures.pagtive import attempt_import, imported, uid
from tests.fixtures.upgraded import connected


def planned(settings, file=None, **options):
    """Plan; return the run, however it ended."""
    run = Run("pagtive plan")
    try:
        plan_pagtive(settings, run, ImportOptions(**options), file)
    except RolloutError as error:
        run.failed(error)
    return run


def fill(source, target):
    """Make a user for each rule, and every collision; return the source's ids by what is expected of them."""
    target.lawsker_user(1, email="mail@x.com", role="user")
    target.account(target.lawsker_user(2), "feishu", "ou_1")
    target.lawsker_user(3, email="twice@x.com")
    target.lawsker_user(4, email="TWICE@x.com")
    return {
        source.user(1, email="MAIL@x.com", role="admin"): "email",
        source.user(2, email=None, username="ou_1"): "feishu",
        source.user(3, email="twice@x.com"): "quarantined",
        source.user(4, email="new@x.com", username="lawsker1"): "created",
        source.user(5, email="\uff2eew@x.com", created_at="2025-01-01"): "merged",
        source.user(6, status=9): "quarantined",
    }


def test_the_plan_is_what_the_import_does(settings, source, target, tmp_path):
    """Rule by rule; collisions of both sides, withheld roles, taken names; the target is untouched by it."""
    expected = fill(source, target)
    before = target.contents()
    file = tmp_path / "plan.csv"
    run = planned(settings, file)
    assert (run.exit_code, run.database, run.error) == (0, "untouched", None)
    assert target.contents() == before
    rows = {row["source_id"]: row for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())}
    assert {key: row["matched_by"] for key, row in rows.items()} == expected
    assert rows[uid(1)]["withheld_role"] == "user -> admin"
    assert rows[uid(1)]["target_user_id"] == uid(1, 9)
    assert (rows[uid(4)]["new_username"], rows[uid(4)]["taken_username"]) == ("lawsker1-2", "lawsker1")
    assert rows[uid(5)]["merged_into"] == uid(4)
    assert (rows[uid(3)]["reasons"], rows[uid(6)]["reasons"]) == ("ambiguous_email", "unknown_value")
    found = run.result["identity"]
    assert found["matched"] == {"created": 1, "email": 1, "feishu": 1, "merged": 1, "quarantined": 2}
    assert found["collisions"] == {"source_email": 1, "target_email": 1}
    assert {"kind": "source_email", "users": [uid(4), uid(5)]} in found["colliding"]
    assert (found["taken_usernames"], run.result["role_escalations_withheld"]) == (1, 1)
    trial = imported(settings, dry_run=True)
    assert trial.result["identity"] == found
    imported(settings)
    assert target.matched() == {key: rule for key, rule in expected.items() if rule != "quarantined"}
    again = planned(settings)
    assert again.result["identity"]["matched"] == {"map": 3, "merged": 1, "quarantined": 2}


def test_what_an_operator_reads(settings, source, target):
    """In either language: who is merged into whom is a note, not a user of the target; a trial is told from a run."""
    fill(source, target)
    run = planned(settings)
    lines = {line.split()[0]: line for line in lines_of(run, Speaker(chinese=False))}
    assert lines[uid(5)].split()[1:] == ["merged", "-", "merged", "into", "source", "user", uid(4)]
    assert any(f"并入源用户 {uid(4)}" in line for line in lines_of(run, Speaker(chinese=True)))
    with connected(settings.target) as connection:
        past = Run("history", result={"runs": runs(connection)})
    assert [one["dry_run"] for one in past.result["runs"]] == [True]
    assert "tried only" in list(lines_of(past, Speaker(chinese=False)))[1]
    assert Speaker(chinese=True).step_name("merge llm_logs") == "合并 llm_logs"


def test_addresses_are_in_the_csv_only(settings, source, target, tmp_path):
    """The file is its owner's alone, also where it was everybody's before; the report holds no address."""
    source.user(1, email="secret@x.com", username="secret@x.com")
    target.lawsker_user(1, username="secret@x.com")
    source.user(2, email="secret.person@x.com", username=None)
    source.user(3, username="13912345678")
    source.user(4, username="lawsker2")
    target.lawsker_user(2)
    file = tmp_path / "plan.csv"
    file.touch(0o644)
    run = planned(settings, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "secret@x.com" in file.read_text(encoding="utf-8")
    assert "secret.person," in file.read_text(encoding="utf-8")
    page = Path(run.result["report"])
    for report in (json.dumps(run.as_json(), default=str), page.read_text(), page.with_suffix(".json").read_text()):
        assert not any(part in report for part in ("secret", "13912345678", "lawsker2"))
    lines = {line.split()[0]: line for line in lines_of(run, Speaker(chinese=False))}
    assert lines[uid(4)].endswith("username is taken")
    assert "taken" not in lines[uid(3)]


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_an_address_that_serves_as_an_id(settings, source):
    """It is in no report, and stops nothing."""
    for number in (1, 2):
        source.user(number, id=f"secret{number}@x.com", email="a@x.com", username=f"name{number}")
    run = planned(settings)
    assert run.result["identity"]["matched"] == {"created": 1, "merged": 1}
    assert "secret" not in json.dumps(run.as_json(), default=str)
    assert not any("secret" in line for line in lines_of(run, Speaker(chinese=False)))


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_an_address_as_the_id_of_somebody_who_changes(settings, source, target):
    """A withheld role and another status are told without it; so is a decision that cannot be followed."""
    target.lawsker_user(1, email="a@x.com")
    source.user(1, id="secret@x.com", email="a@x.com", role="admin", status=2)
    decided = {"line": "2", "source_id": "secret2@x.com", "action": "skip", "target": ""}
    runs = [planned(settings), attempt_import(settings, decisions=[decided]), imported(settings)]
    assert [run.exit_code for run in runs] == [0, 6, 0]
    assert [len(runs[2].result[name]) for name in ("role_escalations", "user_changes")] == [1, 1]
    assert "by line: 2: no such source user" in str(runs[1].error)
    assert not any("secret" in json.dumps(run.as_json(), default=str) for run in runs)


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_a_spreadsheet_runs_nothing(settings, source, target, tmp_path):
    """Names and addresses that it would take for formulas are texts in the CSV; ids stay as they are."""
    names = ['=HYPERLINK("http://x","y")', "+1-2", "@x", "-1", "\tx", "plain=1"]
    for number, name in enumerate(names):
        source.user(number, id=f"-{number}", username=name, email=f"={number}@x.com" if number else None)
    target.lawsker_user(1, username="+1-2")
    file = tmp_path / "plan.csv"
    assert planned(settings, file).exit_code == 0
    with file.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["source_id"] for row in rows] == [f"-{number}" for number in range(6)]
    assert [row["username"] for row in rows] == [*(f"'{name}" for name in names[:5]), "plain=1"]
    assert [row["email"] for row in rows] == ["", *(f"'={number}@x.com" for number in range(1, 6))]
    assert (rows[1]["new_username"], rows[1]["taken_username"]) == ("'+1-2-2", "'+1-2")


def test_a_plan_that_fails_leaves_the_former_one(settings, source, tmp_path):
    """The file changes only with a plan to put there, which has its header whatever the source holds."""
    file = tmp_path / "plan.csv"
    run = planned(settings, file)
    assert (run.exit_code, file.read_text(encoding="utf-8").split(",")[0]) == (0, "source_id")
    source.run("DROP TABLE projects CASCADE")
    file.write_text("the former plan")
    assert planned(settings, file).exit_code == 6
    assert file.read_text() == "the former plan"


def test_a_file_that_cannot_be_written(settings, source, tmp_path):
    """It is said before anything is staged."""
    source.user(1)
    run = planned(settings, tmp_path / "nowhere" / "plan.csv")
    assert (run.exit_code, run.database) == (3, "untouched")
    assert "copy" not in [step.name for step in run.steps]


@pytest.mark.variant
def test_the_oldest_users_only(settings, source):
    """The plan of a trial import with ``--limit-users`` is about the same users as that import."""
    for number in (1, 2, 3):
        source.user(number, created_at=f"2024-01-0{4 - number}")
    plan = planned(settings, limit_users=2)
    trial = imported(settings, limit_users=2, dry_run=True)
    assert plan.result["identity"] == trial.result["identity"]
    assert plan.result["identity"]["matched"] == {"created": 2}


def test_who_gets_another_status_or_role(settings, source, target, tmp_path):
    """Named in the file and on the screen, before anything is changed; of others the column is empty."""
    target.lawsker_user(1, email="a@x.com", status="BANNED", role="admin")
    people = [source.user(1, email="a@x.com", role="user"), source.user(2)]
    run = planned(settings, tmp_path / "plan.csv")
    rows = csv.DictReader((tmp_path / "plan.csv").read_text(encoding="utf-8").splitlines())
    changes = {row["source_id"]: row["change"] for row in rows}
    assert changes == {people[0]: "BANNED -> ACTIVE, admin -> user", people[1]: ""}
    shown = "\n".join(lines_of(run, Speaker(chinese=False)))
    assert "BANNED -> ACTIVE, admin -> user" in shown
    assert "1 user(s) of the target get another status or role" in shown
    assert target.one("SELECT status::text FROM users WHERE email = 'a@x.com'") == "BANNED"


def test_what_an_import_leaves_as_it_is_is_shown(settings, source, target):
    """Rows that differ and stay, and logs whose project is not there: the table of counts does not have them."""
    source.project(1, source.user(1))
    source.log(1, uid(1), project_id=uid(9, 1))
    shown = "\n".join(lines_of(imported(settings), Speaker(chinese=False)))
    assert "1 log(s) name a project that is not there" in shown
    assert "left as it is" not in shown
    target.run("UPDATE pagtive_projects SET project_name = 'ours'")
    source.run("UPDATE projects SET project_name = 'theirs'")
    shown = "\n".join(lines_of(imported(settings), Speaker(chinese=False)))
    assert "left as it is: projects (1)" in shown
