"""Generated starting states: any part of our schema may be there already, with rows; upgrade and rollback give it back.

Two run with the variants; all of them: ``make test-exhaustive ARGS=tests/rollout/test_starting_states.py``.
"""

from __future__ import annotations

import random

import pytest

from rollout import adoption
from rollout.errors import RolloutError
from rollout.run import Run
from tests.fixtures.databases import execute, query
from tests.fixtures.legacy import attempt, picture
from tests.fixtures.migrated import back
from tests.rollout.starting_states import make_different, make_some


def seeds(count, *first):
    """Return the first seed with its marks, the others for those who have minutes."""
    others = (pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, count))
    return [pytest.param(0, marks=first), *others]


def dice_of(seed):
    """Return dice that fall the same way every time."""
    return random.Random(seed)  # noqa: S311 - nothing is kept secret with it


def there_and_back(server, settings):
    """Upgrade and roll back: byte for byte by pg_dump, row for row by content; also where only the baseline stays."""
    before = picture(server)
    run = attempt(settings)
    assert run.error is None
    assert back(settings).error is None
    assert before.differences(picture(server)) == []
    assert attempt(settings).error is None
    assert back(settings, "baseline").error is None
    assert before.lost(picture(server)) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("state", ["clean", "legacy"])
def test_nothing_of_ours_is_there(make_database, legacy_template, settings_for, state):
    """An empty database is empty again, a legacy one is what it was."""
    server = make_database(legacy_template if state == "legacy" else None)
    there_and_back(server, settings_for(server))


@pytest.mark.parametrize("seed", seeds(20, pytest.mark.variant))
def test_some_of_it_is_there(legacy, settings_for, seed):
    """What is identical is taken as it is, and outlives upgrade and rollback."""
    make_some(legacy, dice_of(seed))
    there_and_back(legacy, settings_for(legacy))


@pytest.mark.parametrize("seed", seeds(40, pytest.mark.variant))
def test_some_of_it_is_different(legacy, settings_for, seed):
    """The upgrade refuses and names it; ``--mend`` and its owners make it ours without a loss; then all is as above."""
    dice = dice_of(seed)
    different = make_different(legacy, make_some(legacy, dice), dice)
    settings, before, columns = settings_for(legacy), picture(legacy), columns_of(legacy)
    then = values_of(legacy, columns)
    assert different_in(attempt(settings)) == {one.subject for one in different}
    assert before.differences(picture(legacy)) == []

    mended = mend(settings)
    assert mended.error is None
    left = [one for one in different if not one.is_mended]
    assert mended.result["counts"]["different"] == len(left), mended.result["objects"]
    assert values_of(legacy, columns) == then, "mending loses no value"
    if left:
        assert different_in(attempt(settings)) == {one.subject for one in left}
        execute(legacy, *(typed for one in mended.result["objects"] for typed in one.get("by_owner", [])))
    there_and_back(legacy, settings)


def different_in(run):
    """Return what a refused upgrade names as different."""
    assert (run.exit_code, run.database) == (6, "untouched"), run.error
    return {one.subject for one in run.findings if one.check == "what_is_there_is_identical"}


def mend(settings):
    """Run ``adopt --mend`` and return its run, however it ended."""
    run = Run("adopt")
    try:
        adoption.mend(settings, run, lambda _: True)
    except RolloutError as error:
        run.failed(error)
    return run


def columns_of(server):
    """Return the columns of every table, quoted for SQL."""
    return query(
        server,
        "SELECT json_object_agg(t, c) FROM (SELECT attrelid::regclass::text AS t,"
        " string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS c FROM pg_attribute a JOIN pg_class r"
        " ON r.oid = attrelid WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0"
        " AND NOT attisdropped GROUP BY 1) q",
    )


def values_of(server, columns):
    """Return a digest of each table's rows in these columns, as text."""
    digest = "md5(string_agg(r, ' ' ORDER BY r))"
    each = (
        f"SELECT '{table}' AS t, {digest} AS m FROM (SELECT ROW({names})::text FROM {table}) q(r)"
        for table, names in columns.items()
    )
    return query(server, f"SELECT json_object_agg(t, m) FROM ({' UNION ALL '.join(each)}) q")
