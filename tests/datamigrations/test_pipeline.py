"""Large tables: parts are copied while others are merged, and nobody waits for our locks longer than for the merge."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import psycopg2
import psycopg2.errors
import pytest

from datamigrations import pipeline, staging
from datamigrations.pipe import Abandoned, Pipe, copy_in, hang_up
from datamigrations.source import Source
from tests.fixtures.databases import url_of
from tests.fixtures.legacy import LOCKS, WAITING, meanwhile, picture, tool, until
from tests.fixtures.pagtive import attempt_import, figures, imported, uid
from tests.fixtures.proxy import Silent

LOCKED = f"SELECT count(*) FROM {LOCKS} WHERE relation = 'public.users'::regclass AND mode = 'ShareRowExclusiveLock'"
LEFT = (
    "SELECT count(*) FROM pg_tables WHERE schemaname = 'rollout' AND tablename ~ '^(staged|import)_'"
    " AND tablename <> 'import_changes'"
)
COPYING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
    " AND query LIKE 'COPY rollout.staged_project_details%'"
)
SLOW = """
    CREATE TABLE slow AS SELECT ''::text AS t WITH NO DATA;
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); RETURN NEW; END';
    CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait()
"""
PROJECTS, PAGES = 12, 5


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Make every table a large one that the target is slow to take."""
    monkeypatch.setattr(staging, "_SPLIT_BYTES", 0)
    monkeypatch.setattr(pipeline, "_source_is_slow", lambda _parts: False)


@pytest.fixture
def last_part(monkeypatch):
    """Hold the last part of the pages before it is copied: ``reached``, and ``go`` on."""
    yield from _held(
        monkeypatch, lambda part: part.name == "project_details" and part.source.part == part.source.parts - 1
    )


@pytest.fixture
def second_part(monkeypatch):
    """Hold all parts of large tables but the first of the first."""
    yield from _held(
        monkeypatch, lambda part: part.source.parts > 1 and (part.name, part.source.part) != ("projects", 0)
    )


def _held(monkeypatch, which):
    """Hold parts before they are copied."""
    gate = _Gate()

    def held(source, part, *where):
        if which(part):
            gate.reached.set()
            assert gate.go.wait(20)
        return staging.copy(source, part, *where)

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
        inserted = f"SELECT count(*) FROM {LOCKS} WHERE relation = 'public.pagtive_project_details'::regclass"
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


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize("cheap", [True, False])
def test_where_rows_are_cheap_to_copy_merging_begins_early(settings, target, second_part, monkeypatch, cheap):
    """The merge will take longer than the rest of the copying: it waits for small tables alone. Else, for half."""
    monkeypatch.setattr(pipeline, "_ENOUGH_ROWS", 1)
    monkeypatch.setattr(pipeline, "_CHEAP_SECONDS", 20.0 if cheap else 0.0)
    with holding(settings, second_part) as runs:
        if cheap:
            assert until(settings.target, LOCKED) == 1
        else:
            time.sleep(0.5)
            assert target.one(LOCKED) == 0
    assert runs[0].exit_code == 0, runs[0].error
    assert figures(runs[0], "project_details") == {"read": PROJECTS * PAGES, "inserted": PROJECTS * PAGES}


@pytest.mark.parametrize(("rows", "microseconds", "cheap"), [(9000, 30, True), (9000, 160, False), (900, 30, False)])
def test_rows_are_cheap_once_enough_have_come_fast(rows, microseconds, cheap):
    """Some thousand rows have to be there before anything is said."""
    parts = [SimpleNamespace(rows=rows // 2, seconds=rows * microseconds / 2e6)] * 2
    assert pipeline._rows_are_cheap(parts) == cheap


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
@pytest.mark.parametrize("dry_run", [False, True])
def test_who_lost_the_lock_does_not_commit(settings, target, target_server, last_part, dry_run):
    """Somebody ends the session that holds it: another run may have begun, whose tables are left alone."""
    before = picture(target_server)
    holder = f"SELECT pid FROM {LOCKS} WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'"
    with holding(settings, last_part, dry_run=dry_run) as runs:
        until(settings.target, LOCKED)
        ended = target.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ({holder}) AND state = 'idle'"
        )
        assert ended == [(True,)]
        until(settings.target, f"SELECT count(*) = 1 FROM ({holder}) AS holders")
        target.run("CREATE TABLE rollout.staged_projects_of_another_run (n int)")
    run = runs[0]
    assert (run.exit_code, run.database) == (8, "rolled back"), run.error
    assert "lock was ended" in str(run.error)
    assert before.differences(picture(target_server)) == []
    assert target.one("SELECT to_regclass('rollout.staged_projects_of_another_run') IS NOT NULL")
    assert figures(imported(settings), "projects") == {"read": PROJECTS, "inserted": PROJECTS}
    assert target.one(LEFT) == 0


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

    def too_late(source, name, there):
        if name == "project_details":
            assert until(settings.target, LOCKED) == 1
            gone = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            target.run(gone, source_server.database)
        return count(source, name, there)

    monkeypatch.setattr(Source, "count", too_late)
    run = attempt_import(settings)
    assert (run.exit_code, run.database) == (4, "rolled back"), run.error
    assert "the source went away" in str(run.error)
    assert before.differences(picture(target_server)) == []


@pytest.mark.usefixtures("pages")
def test_one_copy_beside_the_merge(settings, monkeypatch):
    """From the moment in which merging can begin, no COPY begins while another is at work."""
    log = []

    def logged(source, part, *where):
        log.append(("begin", part.name, part.source.part))
        time.sleep(0.1)
        rows = staging.copy(source, part, *where)
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

    def one_short(source, part, *where):
        rows = staging.copy(source, part, *where)
        return rows - 1 if part.name == "llm_logs" and part.source.part == 0 else rows

    monkeypatch.setattr(pipeline, "copy", one_short)
    run = attempt_import(settings)
    assert (run.exit_code, run.database) == (10, "rolled back"), run.error
    assert target.one("SELECT count(*) FROM pagtive_projects") == 0


@pytest.fixture
def endless(source):
    """Let the source send pages for hours."""
    project = source.project(1, source.user(1))
    source.run("ALTER TABLE project_details RENAME TO some_details")
    kinds = {"script": "text", "styles": "text", "images": "jsonb", "mermaid_content": "text", '"versionId"': "uuid"}
    columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in kinds.items())
    source.run(
        f"CREATE VIEW project_details AS SELECT '{project}'::text AS project_id, page_id, {columns},"
        " repeat('x', 1000) AS html, now()::timestamp AS created_at, now()::timestamp AS updated_at"
        " FROM (SELECT generate_series(1, 2000000000) AS page_id) AS g"  # in FROM, the server would gather them first
    )


@contextmanager
def no_rescue(source):
    """Let the block come to its end by itself: after half a minute what it reads is ended, and the test has failed."""
    done = threading.Event()
    rescued = []

    def rescue():
        if not done.wait(30):
            rescued.append(source.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active'"
                                      " AND pid <> pg_backend_pid()"))  # fmt: skip

    rescuer = threading.Thread(target=rescue)
    rescuer.start()
    try:
        yield
    finally:
        done.set()
        rescuer.join()
    assert not rescued


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_cancels_what_the_source_sends(settings, source, target, target_server, jobs):
    """The source need not send the rest, which nobody wants."""
    before = picture(target_server)

    def press():
        assert until(settings.target, COPYING)
        os.kill(os.getpid(), signal.SIGINT)

    with no_rescue(source), meanwhile(press):
        run = attempt_import(settings, jobs=jobs)
    assert (run.exit_code, run.database) == (130, "untouched"), run.error
    assert before.differences(picture(target_server)) == []
    assert target.one(LEFT) == 0


@pytest.mark.usefixtures("endless")
def test_ctrl_c_while_the_source_is_silent(settings, target, target_server):
    """A source that answers nothing any more, no cancel either, holds nobody up."""
    before = picture(target_server)
    with closing(Silent(settings.source)) as proxy:

        def press():
            assert until(settings.target, COPYING)
            proxy.fall_silent()
            os.kill(os.getpid(), signal.SIGINT)

        begin = time.monotonic()
        with meanwhile(press):
            run = attempt_import(replace(settings, source=proxy.server))
        assert time.monotonic() - begin < 20
    assert (run.exit_code, run.database) == (130, "untouched"), run.error
    assert before.differences(picture(target_server)) == []
    assert target.one(LEFT) == 0


class SilentAtLocks(Silent):
    """Falls silent when the second worker asks for its locks; then somebody presses Ctrl-C."""

    locks = 0

    def asked(self, data, seen):
        """Count who asks for locks."""
        self.locks += b"LOCK TABLE" in data
        if self.locks == 3 and not self._silent.is_set():
            self.fall_silent()
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        return super().asked(data, seen)


@pytest.mark.usefixtures("endless")
def test_ctrl_c_while_a_session_of_a_silent_source_is_opened(settings, target_server):
    """A session that has no locks yet holds nobody up either."""
    before = picture(target_server)
    with closing(SilentAtLocks(settings.source)) as proxy:
        begin = time.monotonic()
        run = attempt_import(replace(settings, source=proxy.server))
        assert proxy.locks == 3
        assert time.monotonic() - begin < 20
    assert (run.exit_code, run.database) == (130, "untouched"), run.error
    assert before.differences(picture(target_server)) == []


@pytest.mark.usefixtures("endless")
def test_a_target_that_refuses_is_heard_at_once(settings, source, target, target_server):
    """Not when the source has sent everything."""
    before = picture(target_server)

    def refuse():
        target.run("SELECT pg_cancel_backend(%s)", until(settings.target, COPYING))

    with no_rescue(source), meanwhile(refuse):
        run = attempt_import(settings)
    assert (run.exit_code, run.database) == (8, "untouched"), run.error
    assert "project_details could not be staged: canceling statement" in str(run.error)
    assert before.differences(picture(target_server)) == []


def test_a_target_that_refuses_while_it_is_sent_to_is_heard(settings, target):
    """The server has stopped reading before it refuses: where libpq waits to send, it keeps the answer to itself."""
    pipe = Pipe()
    writer = threading.Thread(target=_write_on, args=(pipe,), daemon=True)
    copying = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY slow %' AND wait_event = 'PgSleep'"

    def refuse():
        pid = until(settings.target, copying)
        time.sleep(0.5)
        target.run("SELECT pg_cancel_backend(%s)", pid)

    with closing(psycopg2.connect(**settings.target.parameters)) as here:
        with here.cursor() as cursor:
            cursor.execute(SLOW)
        writer.start()
        begin = time.monotonic()
        with meanwhile(refuse), pytest.raises(psycopg2.errors.QueryCanceled):
            copy_in(here, "slow", pipe)
        assert time.monotonic() - begin < 20
    pipe.abandon()
    writer.join()


def test_a_source_hears_that_it_was_hung_up_on(settings):
    """It was waiting to send: what it sent is read to the end, and then no more, so that it had to wait for long."""
    going_on = threading.Event()
    with closing(psycopg2.connect(**settings.source.parameters)) as there, there.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
        rows = "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"

        def read():
            with pytest.raises(psycopg2.Error):
                cursor.copy_expert(f"COPY ({rows}) TO STDOUT", _Held(going_on))

        with meanwhile(read):
            sending = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'ClientWrite'"
            assert until(settings.source, sending)
            time.sleep(0.5)
            hang_up(there)
            going_on.set()
    assert until(settings.source, f"SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = {pid})", seconds=10)


class _Held:
    """What takes no row before it may."""

    def __init__(self, may):
        self._may = may

    def write(self, _data):
        """Wait."""
        assert self._may.wait(20)


def _write_on(pipe):
    """Write rows of COPY's binary format for half a minute, or until nobody wants more."""
    row = b"\x00\x01" + (1000).to_bytes(4, "big") + b"x" * 1000
    pipe.write(b"PGCOPY\n\xff\r\n\x00" + bytes(8))
    until_when = time.monotonic() + 30
    with suppress(Abandoned):
        while time.monotonic() < until_when:
            pipe.write(row)
        pipe.end(TimeoutError())


@pytest.mark.usefixtures("endless")
def test_a_target_that_ends_the_session(settings, source, target):
    """One line of error and one of advice, and nothing of what psycopg2 prints besides."""
    reads = {"SOURCE_DATABASE_URL": url_of(settings.source)}
    with (
        tool(settings.target, "pagtive", "import", directory=settings.directory, **reads) as process,
        no_rescue(source),
    ):
        target.run("SELECT pg_terminate_backend(%s)", until(settings.target, COPYING))
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 8
    assert "could not be staged" in told
    assert "psycopg2" not in told
    assert "SystemError" not in told


@pytest.mark.usefixtures("pages")
def test_ctrl_c_while_the_source_counts(settings, source, target, monkeypatch):
    """The count is cancelled too; the target's locks are not held that long."""
    counting = threading.Event()

    def slow(_source, _name, there):
        counting.set()
        with there.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(3600)")

    monkeypatch.setattr(Source, "count", slow)

    def press():
        assert counting.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    with no_rescue(source), meanwhile(press):
        run = attempt_import(settings)
    assert run.exit_code == 130, run.error
    assert target.one(LEFT) == 0


@pytest.mark.usefixtures("endless")
def test_a_start_that_is_interrupted(settings, source, target, monkeypatch):
    """What has begun is stopped, also where not everything has."""
    start = pipeline.Pipeline.start

    def interrupted(self, pool):
        start(self, pool)
        assert until(settings.target, COPYING)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pipeline.Pipeline, "start", interrupted)
    with no_rescue(source), pytest.raises(KeyboardInterrupt):
        attempt_import(settings)
    assert target.one(LEFT) == 0


@pytest.mark.usefixtures("pages")
def test_who_alters_the_source_waits_for_us(settings, source, target, last_part):
    """A change of a source's table that comes meanwhile waits; we do not wait for it, with the target's locks."""
    altered = []

    def alter():
        source.run("SET lock_timeout = '20s'; ALTER TABLE project_details ADD extra int")
        altered.append(True)

    with holding(settings, last_part) as runs:
        until(settings.target, LOCKED)
        alterer = threading.Thread(target=alter)
        alterer.start()
        assert until(settings.source, f"{WAITING} AND mode = 'AccessExclusiveLock'")
    alterer.join()
    assert altered
    assert runs[0].exit_code == 0, runs[0].error
    assert target.one("SELECT count(*) FROM pagtive_project_details") == PROJECTS * PAGES
