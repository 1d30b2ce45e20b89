"""``--decisions``: they override the rules, are checked as a whole, and what is skipped is accounted for."""

from pathlib import Path

import pytest

from datamigrations.decisions import read
from datamigrations.undo import undo_run
from rollout.errors import PreflightFailed, RolloutError
from rollout.messages import in_chinese
from rollout.output import output
from rollout.run import Run
from tests.fixtures.pagtive import attempt_import, figures, imported, uid


def rows(*given):
    """Return decisions as the file's reader does."""
    names = ("source_id", "action", "target")
    return [{"line": str(line), **dict(zip(names, one, strict=True))} for line, one in enumerate(given, start=2)]


def test_they_override_the_rules(settings, source, target):
    """Match, create and skip, against what e-mail says; the same again changes nothing, an undo leaves no trace."""
    target.run("ALTER TABLE users DISABLE TRIGGER USER")
    users = [target.lawsker_user(number, email=f"u{number}@x.com") for number in range(4)]
    people = [source.user(number, email=f"U{number}@x.com") for number in range(4)]
    source.project(1, people[2])
    before = target.contents()
    decided = rows((people[0], "match", users[3]), (people[1], "create", ""), (people[2], "skip", ""))
    run = imported(settings, decisions=decided)
    assert target.matched() == {people[0]: "decision", people[1]: "created", people[3]: "merged"}
    assert target.one("SELECT user_id::text FROM pagtive_user_map WHERE source_id = %s", people[0]) == users[3]
    assert target.rejected()[f"users {people[2]}"] == ["skipped_by_decision"]
    assert run.result["reasons"] == {"skipped_by_decision": 1, "unknown_user": 1}
    assert figures(imported(settings, decisions=decided[2:]), "users")["quarantined"] == 1
    again = imported(settings, decisions=decided)
    assert figures(again, "users") == {"read": 4, "unchanged": 2, "merged": 1, "quarantined": 1}
    undo_run(settings, Run("pagtive undo"), run.run_id)
    assert target.contents() == before


def test_every_problem_is_told(settings, source, target):
    """Unknown source, unknown target, a target twice, the map: all of them by line, and nothing is written."""
    user = target.lawsker_user(1)
    mapped = source.user(9)
    imported(settings)
    people = [source.user(number) for number in range(3)]
    before = target.contents()
    decided = rows(
        ("nobody", "skip", ""), (people[0], "match", uid(77)), (people[1], "match", user), (people[2], "match", user),
        (mapped, "skip", ""),
    )  # fmt: skip
    run = attempt_import(settings, decisions=decided)
    assert (run.exit_code, run.database) == (6, "untouched")
    assert all(f"{line}: " in run.error.message for line in range(2, 7))
    said = in_chinese(run.error.message)
    assert all(part in said for part in ("没有该源用户", "不是目标库的用户", "同一个 target", "不同的对应关系"))
    assert target.contents() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "header"),
        (b"a,skip,\n", "header"),
        (b"source_id,action,target\n", "no decision"),
        (b"source_id,action,target\na,skip,\na,skip,\n", "3: source_id"),
        (b"source_id,action,target\na,drop,\n", "2: action"),
        (b"source_id,action,target\na,skip,x\nb,match,\n", "3: a target"),
        (b"source_id,action,target\na,skip,,\n", "2: too many"),
        (b"\xff\xfes\x00o\x00", "UTF-8"),
        (b"source_id,action,target\nab\0c,skip,\n", "2: a NUL"),
        (b'source_id,action,target\na,skip,\n"b,skip,\n' + b"c,skip,\n" * 20_000, "3: a quotation mark"),
        (b'source_id,action,target\na,skip,\n"b,skip,\nc,skip,\n', "3: a quotation mark"),
        (b'source_id,action,"target\n' + b"c,skip,\n" * 20_000, "1: a quotation mark"),
        (b"source_id,action,target\n,,\n , ,,\n", "no decision"),
        (b"source_id,action,target\n,skip,\n", "2: source_id"),
    ],
)
def test_files_that_are_none(tmp_path, content, said):
    """Empty, without header or rows, wrong rows, UTF-16."""
    file = tmp_path / "decisions.csv"
    file.write_bytes(content)
    with pytest.raises(PreflightFailed, match=said):
        read(file)


def test_a_file_that_is_not_there(tmp_path):
    """The advice is about the file, not about its form."""
    with pytest.raises(PreflightFailed, match="cannot be read") as caught:
        read(tmp_path / "nowhere.csv")
    assert caught.value.hint == "Check the file's name and rights."


def test_an_empty_name():
    """``--decisions ""`` and its like: the name is what is wrong, not a directory."""
    for use in (lambda: read(Path()), lambda: output(Path()).__enter__()):
        with pytest.raises(RolloutError, match="the file name is empty") as caught:
            use()
        assert caught.value.exit_code in {3, 6}


def test_empty_rows(tmp_path):
    """What Excel leaves at the end, or between: cells without anything in them; lines are counted all the same."""
    file = tmp_path / "decisions.csv"
    file.write_bytes(b"source_id,action,target\r\na,skip,\r\n,,\r\n\r\nb,create, \r\n,,\r\n , ,,\r\n")
    assert [(row["line"], row["source_id"]) for row in read(file)[1]] == [("2", "a"), ("5", "b")]


def test_what_spreadsheets_write(tmp_path):
    """A byte order mark, semicolons, Windows line ends, another order of columns."""
    file = tmp_path / "decisions.csv"
    file.write_bytes(b"\xef\xbb\xbfaction;source_id;target\r\nskip;a;\r\n")
    assert read(file)[1] == [{"line": "2", "action": "skip", "source_id": "a", "target": ""}]


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_only_a_uuid_is_read_in_small_letters(settings, source, tmp_path):
    """An id that is some other text with four dashes is what it is; a uuid is the same however it is written."""
    source.user(1, id="V1-StGX-R8_Z5-jdHi6B-myT")
    source.user(0xABC)
    path = tmp_path / "d.csv"
    path.write_text(f"source_id,action,target\nV1-StGX-R8_Z5-jdHi6B-myT,skip,\n{uid(0xABC).upper()},skip,\n", "utf-8")
    _, decided = read(path)
    assert figures(imported(settings, decisions=decided), "users") == {"read": 2, "quarantined": 2}


def test_to_skip_somebody_who_does_not_fit(settings, source):
    """There is nothing to be done with that user, which is what was decided."""
    source.user(1, status=9)
    source.user(2)
    run = imported(settings, decisions=rows((uid(1), "skip", "")))
    assert figures(run, "users") == {"read": 2, "inserted": 1, "quarantined": 1}


@pytest.mark.parametrize("action", ["skip", "create"])
def test_a_decision_on_an_id_that_is_there_twice_stands(settings, source, target, action):
    """The user is one, whose second row does not count."""
    source.run("ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE")
    target.account(target.lawsker_user(1), "email", "a@x.com")
    person = source.user(1, email="a@x.com")
    imported(settings, decisions=rows((person, action, "")))
    source.user(1, email="a@x.com", status=9)
    assert figures(imported(settings), "users") == {"read": 2, "quarantined": 2}


def test_who_could_not_be_created_stays_apart(settings, source, target):
    """A decision stands until another is made: the next import, or a retry, does not take them for somebody else."""
    target.run("ALTER TABLE users DISABLE TRIGGER USER")
    user = target.lawsker_user(1, email="a@x.com")
    target.account(user, "email", "a@x.com")
    person = source.user(1, email="A@x.com", status=2)
    imported(settings, decisions=rows((person, "create", "")))
    for options in ({}, {"retry_rejects": True}):
        assert figures(imported(settings, **options), "users") == {"read": 1, "quarantined": 1}
    assert target.rejected() == {f"users {person}": ["create_taken"]}
    assert target.one("SELECT status::text FROM users WHERE id = %s", user) == "ACTIVE"
    target.run("DELETE FROM user_accounts")
    assert figures(imported(settings), "users") == {"read": 1, "inserted": 1}
    assert target.matched() == {person: "created"}


def test_columns_with_names_of_ours(tmp_path):
    """Whatever a further column is called, it is a remark."""
    path = tmp_path / "d.csv"
    path.write_text("line,None,source_id,action,target\n7,x,a,skip,\n", "utf-8")
    assert read(path)[1] == [{"line": "2", "source_id": "a", "action": "skip", "target": ""}]


def test_further_columns_are_remarks(tmp_path):
    """They are not read, nor kept; a column of ours that is missing, or there twice, is named."""
    path = tmp_path / "d.csv"
    path.write_text("备注,source_id,action,target\n离职,a,skip,\n", "utf-8")
    assert read(path)[1] == [{"line": "2", "source_id": "a", "action": "skip", "target": ""}]
    for first, named in (("source_id,action", "target"), ("source_id,action,target,action", "action")):
        path.write_text(f"{first}\na,skip\n", "utf-8")
        with pytest.raises(PreflightFailed, match=rf"does not name once: {named}$"):
            read(path)
