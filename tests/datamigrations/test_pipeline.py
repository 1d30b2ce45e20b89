"""Large tables: parts are copied while others are merged, and nobody waits for our locks longer than for the merge."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from datamigrations import pipeline, staging
from datamigrations.pipe import Pipe
from datamigrations.source import Source
from tests.fixtures.legacy import meanwhile, picture, until
from tests.fixtures.pagtive import attempt_import, figures, imported, uid

LOCKED = "SELECT count(*) FROM pg_locks WHERE relation = 'public.users'::regclass AND mode = 'ShareRowExclusiveLock'"
LEFT = (
    "SELECT count(*) FROM pg_tables WHERE schemaname = 'rollout' AND tablename ~ '^(staged|import)_'"
    " AND tablename <> 'import_changes'"
)
PROJECTS, PAGES = 12, 5


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Make every table a large one that the target is slow to take."""
    monkeypatch.setattr(staging, "_SPLIT_BYTES", 0)
    monkeypatch.setattr(pipeline, "_source_is_slow", lambda _parts: False)


@pytest.fixture
def last_part(monkeypatch):
    """Hold the last part of the pages before it is copied: ``reached``, and ``go`` on."""
    gate = _Gate()

    def held(source, part, engine):
        if part.name == "project_details" and part.source.part == part.source.parts - 1:
            gate.reached.set()
            assert gate.go.wait(20)
        return staging.copy(source, part, engine)

    monkeypatch.setattr(pipeline, "copy", held)
    yield gate
    gate.go.set()


class _Gate:
    """Where a thread waits."""

    def __init__(self):
        self.reached, self.go = threading.Event(), threading.Event()


@pytest.fixture
def pages(source):
    """Fill the source with pages and logs of many projects."""
    for number in range(PROJECTS):
        project = source.project(number, source.user(number))
        for page in range(PAGES):
            source.page(project, page, html=f"<p>{number} {page}")
        source.log(number, uid(number), project_id=project)


@contextmanager
def holding(settings, gate, **options):
    """Import while the last part of the pages is held; yield a list in which the run will be."""
    runs = []
    with meanwhile(lambda: runs.append(attempt_import(settings, **options))):
        assert gate.reached.wait(20)
        yield runs
        gate.go.set()


@pytest.mark.usefixtures("pages")
def test_parts_are_merged_while_others_are_copied(settings, target, last_part):
    """The transaction has its locks, and has written, before the last part is there; then that is merged too."""
    with holding(settings, last_part) as runs:
        assert until(settings.target, LOCKED) == 1
        inserted = "SELECT count(*) FROM pg_locks WHERE relation = 'public.pagtive_project_details'::regclass"
        assert until(settings.target, f"{inserted} AND mode = 'RowExclusiveLock'")
        assert target.one("SELECT count(*) FROM pagtive_projects") == 0
    run = runs[0]
    assert run.exit_code == 0, run.error
    assert figures(run, "project_details") == {"read": PROJECTS * PAGES, "inserted": PROJECTS * PAGES}
    assert figures(run, "llm_logs") == {"read": PROJECTS, "inserted": PROJECTS}
    assert target.one("SELECT count(DISTINCT html) FROM pagtive_project_details") == PROJECTS * PAGES
    assert "copied while" in next(str(step.detail) for step in run.steps if step.name == "copy")
    again = imported(settings)
    assert figures(again, "project_details") == {"read": PROJECTS * PAGES, "unchanged": PROJECTS * PAGES}


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize("why", ["one job", "slow source"])
def test_nobody_waits_for_a_slow_source(settings, target, last_part, monkeypatch, why):
    """Where copying takes longer than merging, everything is there before the locks are taken."""
    if why == "slow source":
        monkeypatch.setattr(pipeline, "_source_is_slow", lambda _parts: True)
    with holding(settings, last_part, jobs=1 if why == "one job" else 2) as runs:
        time.sleep(0.5)
        assert target.one(LOCKED) == 0
    assert runs[0].exit_code == 0, runs[0].error


def test_who_waits_for_whom_is_measured():
    """A reader that has nothing to read shows in the pipe, one that is slow itself does not."""
    waited = {}
    for slow in ("source", "target"):
        pipe = Pipe()
        writer = threading.Thread(target=_write, args=(pipe, 0.1 if slow == "source" else 0))
        begin = time.monotonic()
        writer.start()
        while pipe.read():
            time.sleep(0.1 if slow == "target" else 0)
        writer.join()
        waited[slow] = pipe.waited / (time.monotonic() - begin)
    assert waited["source"] > 0.5 > waited["target"]


def _write(pipe, pause):
    """Write three chunks with pauses before them."""
    for _ in range(3):
        time.sleep(pause)
        pipe.write(b"x" * 300_000)
    pipe.end()


@pytest.mark.parametrize("source_server", ["text"], indirect=True)
def test_rows_of_one_key_are_in_one_part(settings, source, target):
    """However a project's id is written, its pages are compared with each other."""
    for number in range(0xA0, 0xA0 + PROJECTS):
        project = source.project(number, source.user(number))
        for spelled in (project.lower(), project.upper()):
            source.page(spelled, "1")
    run = imported(settings)
    assert figures(run, "project_details") == {"read": 2 * PROJECTS, "inserted": PROJECTS, "quarantined": PROJECTS}
    assert run.result["reasons"] == {"duplicate_page": PROJECTS}
    assert target.one("SELECT count(*) FROM pagtive_project_details") == PROJECTS


@pytest.mark.usefixtures("pages")
def test_the_source_goes_away_beside_the_merge(settings, source_server, target, target_server, last_part):
    """What is missing cannot come any more: rolled back, as it was, and the next import works."""
    before = picture(target_server)
    with holding(settings, last_part) as runs:
        until(settings.target, LOCKED)
        target.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", source_server.database)
    run = runs[0]
    assert (run.exit_code, run.database) == (4, "rolled back"), run.error
    assert before.differences(picture(target_server)) == []
    assert target.one(LEFT) == 0
    assert figures(imported(settings), "projects") == {"read": PROJECTS, "inserted": PROJECTS}


@pytest.mark.usefixtures("pages")
def test_the_source_goes_away_before_its_rows_are_counted(settings, source_server, target, target_server, monkeypatch):
    """It is the source of which that is said, and the target is rolled back."""
    before = picture(target_server)
    count = Source.count

    def too_late(source, name):
        target.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", source_server.database)
        return count(source, name)

    monkeypatch.setattr(Source, "count", too_late)
    run = attempt_import(settings)
    assert (run.exit_code, run.database) == (4, "rolled back"), run.error
    assert "the source went away" in str(run.error)
    assert before.differences(picture(target_server)) == []


@pytest.mark.usefixtures("pages")
def test_one_copy_beside_the_merge(settings, monkeypatch):
    """From the moment in which merging can begin, no COPY begins while another is at work."""
    log = []

    def logged(source, part, engine):
        log.append(("begin", part.name, part.source.part))
        time.sleep(0.1)
        rows = staging.copy(source, part, engine)
        log.append(("end", part.name, part.source.part))
        return rows

    monkeypatch.setattr(pipeline, "copy", logged)
    assert imported(settings).exit_code == 0
    begun, ended, beside = [], [], []
    whole = sum(event == "begin" for event, *_ in log)
    for event, *part in log:
        if event == "end":
            ended.append(part)
            continue
        if len(ended) >= whole // 2 + 1:
            beside.append(len(begun) - len(ended))
        begun.append(part)
    assert set(beside) == {0}
    assert [part for part in begun if part[0] == "project_details"] == [["project_details", n] for n in range(4)]


@pytest.mark.usefixtures("pages")
def test_ctrl_c_while_the_merge_waits_for_a_part(settings, target, target_server, last_part):
    """The import ends at once with 130; nothing is left, no thread either."""
    before = picture(target_server)
    threads = threading.active_count()

    def press():
        assert last_part.reached.wait(20)
        until(settings.target, LOCKED)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        last_part.go.set()

    presser = threading.Thread(target=press)
    presser.start()
    run = attempt_import(settings)
    presser.join()
    assert (run.exit_code, run.database) == (130, "rolled back"), run.error
    assert before.differences(picture(target_server)) == []
    assert target.one(LEFT) == 0
    assert threading.active_count() == threads


@pytest.mark.usefixtures("pages")
def test_parts_that_do_not_make_the_whole_are_refused(settings, target, monkeypatch):
    """A part that lost a row on its way: nothing is committed."""

    def one_short(source, part, engine):
        rows = staging.copy(source, part, engine)
        return rows - 1 if part.name == "llm_logs" and part.source.part == 0 else rows

    monkeypatch.setattr(pipeline, "copy", one_short)
    run = attempt_import(settings)
    assert (run.exit_code, run.database) == (10, "rolled back"), run.error
    assert target.one("SELECT count(*) FROM pagtive_projects") == 0
