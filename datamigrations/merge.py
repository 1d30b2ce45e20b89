"""The set-based merge of one table, or of a part of it: convert, reject, plan, write (users: ``people``).

Four temporary tables a table at most, each with one row a source row and none of the large values: those go from the
staging table straight to the target.

- ``import_converted_T``: every value that had to be converted, the rows it refers to, the hashes of large values, and
  whether the row fits by itself (``unfit``)
- ``import_rejected``: what does not fit, and why
- ``import_plan_T``: conversions of what fits, the times that stand for missing ones, and what is to be done; where the
  target's table had no rows, that is worked out from ``import_converted_T`` where it is needed (``Job.plans``)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datamigrations import quarantine, reconcile, rules
from datamigrations.job import KEEP, SOURCE
from datamigrations.mapping import DETAILS, Kind
from datamigrations.rules import Rule
from rollout.database import quote
from rollout.fingerprint import TEXT, row_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datamigrations.job import Job
    from datamigrations.mapping import Table
    from datamigrations.source import SourceTable


def convert(job: Job, source: SourceTable) -> None:
    """Make ``import_converted_T``: conversions, hashes (``h_…``), the user and project a row refers to (``ref_…``).

    ``unfit``: whether any rule's predicate holds; which one is asked of such rows only.
    """
    table, zone = source.table, job.options.source_timezone
    converted = {
        field.name: rules.conversion(field, source.columns[field.name], zone)
        for field in table.fields
        if field.name in source.columns and not rules.is_direct(field, source.columns[field.name])
    }
    columns = [f"{sql} AS {quote(name)}" for name, sql in converted.items()]
    columns += [f"s.{quote(rules.hash_column(name))}" for name in rules.hashes(source)]
    joins = ""
    if table.user is not None:
        columns.append("m.user_id AS ref_user")
        joins += f" LEFT JOIN public.pagtive_user_map AS m ON m.source_id = {converted[table.user]}"
    if table.project is not None:
        # A log's project may be anything, a page's is a uuid.
        key = "p.id::text" if table.field(table.project).kind is Kind.KEY else "p.id"
        columns.append("p.id AS ref_project")
        joins += f" LEFT JOIN public.pagtive_projects AS p ON {key} = {converted[table.project]}"
    unfit = " OR ".join(f"({rule.predicate})" for rule in _tests(source))
    # OFFSET keeps the planner from putting each conversion wherever it is named, to be worked out again.
    job.temporary(
        f"import_converted_{table.name}",
        f"SELECT w.*, ({unfit}) AS unfit FROM rollout.{source.staged} AS s{joins}"
        f" CROSS JOIN LATERAL (SELECT s.n, {', '.join(columns)} OFFSET 0) AS w",
    )


def reject(job: Job, source: SourceTable) -> None:
    """Collect what does not fit: by the fields' rules, by what a row refers to, and second rows of one key."""
    table = source.table
    quarantine.reject_by_rules(job, source, _tests(source))
    key = ", ".join(f"w.{quote(name)}" for name in table.key)
    code, message = "duplicate_key", "another row has the same key"
    if table is DETAILS:
        code, message = "duplicate_page", "another page of the project has the same number"
    quarantine.reject(job, table, code, message, _later_rows(job, source, key))
    if table.unique is not None:
        _reject_taken(job, source, table.unique)


def _reject_taken(job: Job, source: SourceTable, name: str) -> None:
    """Reject rows whose unique value another row has; of several of this source, one that the target has keeps it."""
    table, column = source.table, quote(name)
    value = rules.value(table.field(name), source)
    rows = _with_staged(source)
    there = f"EXISTS (SELECT FROM public.{table.target} AS t WHERE t.id = w.id AND t.{column} = {value})"
    message = f"another row has the same {name}"
    later = _later_rows(job, source, value, rows, f"({there}) DESC, ")
    quarantine.reject(job, table, f"duplicate_{name}", message, later)
    other = f"public.{table.target} AS t ON t.{column} = {value} AND t.id <> w.id"
    message = f"another row of the target has the same {name}"
    query = f"SELECT w.n FROM {rows} JOIN {other} WHERE {quarantine.accepted_so_far(job, table)}"
    quarantine.reject(job, table, f"{name}_taken", message, query)


def _tests(source: SourceTable) -> Iterator[Rule]:
    """Yield all rules that a row has to keep by itself: those of its fields, and of what it refers to."""
    yield from rules.rules(source)
    yield from _references(source.table)


def _references(table: Table) -> Iterator[Rule]:
    """Yield the rules for what a row refers to: a user has to be known, a page's project too; a log's need not."""
    if table.user is not None:
        user = f"w.{quote(table.user)}"
        yield Rule("unknown_user", f"{user} IS NOT NULL AND w.ref_user IS NULL", f"{table.user} is no known user")
    if table.project is not None and table.field(table.project).required:
        project = f"w.{quote(table.project)}"
        yield Rule(
            "unknown_project",
            f"{project} IS NOT NULL AND w.ref_project IS NULL",
            f"{table.project} is no known project",
        )


def _later_rows(job: Job, source: SourceTable, key: str, rows: str | None = None, first: str = "") -> str:
    """Return a query for all rows but the first (by ``first``, age, content) of every key that is there twice.

    By content, so that it is the same one in the next run, whatever the source has moved meanwhile.
    """
    table = source.table
    large = rules.hashes(source)
    whole = row_hash([(f"s.{quote(name)}", TEXT) for name in source.columns if name not in large])
    names = [table.created, table.key[0], *map(rules.hash_column, large)]
    order = first + ", ".join([*(f"w.{quote(name)}" for name in names), whole, "w.n"])
    rows = rows or f"rollout.import_converted_{table.name} AS w"
    accepted = quarantine.accepted_so_far(job, table)
    # Hardly any key is there twice: grouping takes a third of the time that sorting does.
    return (
        f"SELECT d.n FROM (SELECT w.n, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS place"
        f" FROM {_with_staged(source)} WHERE {accepted} AND ({key}) IN (SELECT {key} FROM {rows} WHERE {accepted}"
        f" GROUP BY {key} HAVING count(*) > 1)) AS d WHERE d.place > 1"
    )


def _with_staged(source: SourceTable) -> str:
    """Return FROM for the converted rows of a table or part (``w``), each with what was staged of it (``s``)."""
    return f"rollout.import_converted_{source.table.name} AS w JOIN rollout.{source.staged} AS s ON s.n = w.n"


def plan(job: Job, source: SourceTable) -> None:
    """Plan what is to be done (``action``) with what fits, and the times that it gets.

    Actions: ``insert``; and of rows that the target has: ``unchanged``, ``update``, ``kept`` as they are there.
    """
    table = source.table
    rows = f"rollout.import_converted_{table.name} AS v"
    accepted = quarantine.accepted_so_far(job, table, "v")
    if job.has_rows(table.target):
        rows += f" LEFT JOIN public.{table.target} AS t ON {rules.same_key(table, 'v')}"
        rows += f" CROSS JOIN LATERAL (SELECT v.*, {', '.join(_times(table, there=True))}) AS w"
        new = f"WHEN t.{quote(table.field(table.key[0]).column)} IS NULL THEN 'insert'"
        action = f"CASE {new} WHEN NOT ({_differs(source)}) THEN 'unchanged' {_choice(job, table)} END"
        name = f"import_plan_{table.name}"
        job.temporary(name, f"SELECT w.*, {action} AS action FROM {rows} WHERE {accepted}")
        job.plans[table.name] = f"rollout.{name}"
    else:
        # Nothing to look up: not worth a table.
        times = ", ".join(_times(table, there=False))
        job.plans[table.name] = f"(SELECT v.*, {times}, 'insert' AS action FROM {rows} WHERE {accepted})"
    job.actions[table.name], defaulted = _planned(job, table)
    job.counts[table.name].defaulted += defaulted
    if "same age" in job.actions[table.name]:
        _settle_same_age(job, table)


def _planned(job: Job, table: Table) -> tuple[dict[str, int], int]:
    """Count what is planned, by action, and the rows that get a time which they did not have."""
    found = job.connection.exec_driver_sql(
        "SELECT w.action, count(*), count(*) FILTER (WHERE w.defaulted)"
        f" FROM {job.plans[table.name]} AS w GROUP BY w.action"
    ).all()
    return {row[0]: row[1] for row in found}, sum(row[2] for row in found)


def _times(table: Table, *, there: bool) -> Iterator[str]:
    """Yield the columns of a plan that say which times a row (``v``) gets, and whether it had any.

    ``there``: whether the target may have the row (``t``) already.
    """
    created = f"v.{quote(table.created)}"
    stand_in = f"v.{quote(table.stand_in)}" if table.stand_in else "NULL::timestamptz"
    own = f"t.{quote(table.created)}, " if there else ""
    yield f"coalesce({created}, {stand_in}, {own}now()) AS new_created"
    yield f"({created} IS NULL AND {stand_in} IS NULL) AS timeless"
    if table.updated is None:
        yield f"{created} IS NULL AS defaulted"
    else:
        updated = f"v.{quote(table.updated)}"
        own = f"t.{quote(table.updated)}, " if there else ""
        yield f"coalesce({updated}, {created}, {own}now()) AS new_updated"
        yield f"({created} IS NULL OR {updated} IS NULL) AS defaulted"


def _differs(source: SourceTable) -> str:
    """Return the SQL condition that a row of the target (``t``) is not what the source's would become."""
    large = rules.large(source)
    compared = {name: (f"t.{quote(name)}", value) for name, value in rules.mapped(source).items() if name not in large}
    # Small values first: a row that differs there needs no look at its large ones.
    compared |= {name: (rules.large_hash(f"t.{quote(name)}"), value) for name, value in large.items()}
    return " OR ".join(f"{ours} IS DISTINCT FROM {theirs}" for ours, theirs in compared.values())


def _settle_same_age(job: Job, table: Table) -> None:
    """Decide what happens to rows that differ and are of one age: updated where nobody has edited them since."""
    job.execute(
        f"UPDATE rollout.import_plan_{table.name} AS w SET action ="
        f" CASE WHEN l.content = {reconcile.target_content(table)} THEN 'update' ELSE 'kept' END"
        f" FROM public.{table.target} AS t"
        f" LEFT JOIN ({reconcile.last(table.target)}) AS l ON l.row_key = t.id::text"
        f" WHERE w.action = 'same age' AND {rules.same_key(table)}"
    )
    job.actions[table.name], _ = _planned(job, table)


def _choice(job: Job, table: Table) -> str:
    """Return the rest of the CASE for rows that differ: the newer one wins, or always the source's, or the target's.

    Where neither is newer, the source's wins if nobody has edited the target's since it was imported.
    """
    if job.options.on_conflict == SOURCE:
        return "ELSE 'update'"
    if job.options.on_conflict == KEEP:
        return "ELSE 'kept'"
    theirs = "greatest(" + ", ".join(f"w.{quote(name)}" for name in table.ages) + ")"
    ours = "greatest(" + ", ".join(f"t.{quote(name)}" for name in table.ages) + ")"
    if table.updated is not None:
        theirs = "CASE WHEN NOT w.timeless THEN w.new_updated END"
    return f"WHEN {theirs} > {ours} THEN 'update' WHEN {theirs} < {ours} THEN 'kept' ELSE 'same age'"


def write(job: Job, source: SourceTable) -> None:
    """Insert and update what the plan says."""
    table = source.table
    values = rules.mapped(source)
    names = ", ".join(quote(name) for name in values)
    rows = f"rollout.{source.staged} AS s JOIN {job.plans[table.name]} AS w ON w.n = s.n"
    counts, actions = job.counts[table.name], job.actions[table.name]
    if "insert" in actions:
        counts.inserted += job.execute(
            f"INSERT INTO public.{table.target} ({names}) SELECT {', '.join(values.values())} FROM {rows}"
            " WHERE w.action = 'insert'"
        )
    if "update" in actions:
        _nudge(job, table)
        settings = ", ".join(f"{quote(name)} = {value}" for name, value in values.items())
        counts.updated += job.execute(
            f"UPDATE public.{table.target} AS t SET {settings} FROM {rows}"
            f" WHERE w.action = 'update' AND {rules.same_key(table)}"
        )


def _nudge(job: Job, table: Table) -> None:
    """Move ``updated_at`` where it would stay the same, or our trigger would take the change for one without a time."""
    if table.updated is not None:
        job.execute(
            f"UPDATE rollout.import_plan_{table.name} SET new_updated = now() WHERE action = 'update' AND timeless"
        )
        updated = quote(table.updated)
        job.execute(
            f"UPDATE public.{table.target} AS t SET {updated} = t.{updated} + interval '1 microsecond'"
            f" FROM rollout.import_plan_{table.name} AS w"
            f" WHERE w.action = 'update' AND t.{updated} = w.new_updated AND {rules.same_key(table)}"
        )


def count(job: Job, source: SourceTable) -> None:
    """Count what became of the rows that were not written."""
    table, counts = source.table, job.counts[source.table.name]
    counts.quarantined += quarantine.keep(job, source)
    actions = job.actions[table.name]
    kept = actions.get("kept", 0)
    job.kept[table.name] = job.kept.get(table.name, 0) + kept
    counts.unchanged += actions.get("unchanged", 0) + kept
