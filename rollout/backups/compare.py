"""A restored database and its backup side by side."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rollout import catalog
from rollout.findings import ERROR, WARNING, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.catalog import Catalog, Definition
    from rollout.contents import Contents, SequencePosition, TableContent

CHECK = "restored_equals_backup"

# What PUBLIC may do where nobody granted or revoked anything (https://www.postgresql.org/docs/current/ddl-priv.html).
_PUBLIC_BY_DEFAULT = {"function": "=X", "type": "=U"}


def differences(expected: Contents, found: Contents, *, by_catalog: bool = False) -> list[Finding]:
    """Compare a restored database with what the manifest says; nothing when they hold the same.

    Errors: rows, sequences, large objects, and objects that are missing or too many. How objects are defined is for
    `pg_dump -s` to say (``rollout.definitions``); ``by_catalog``: where that cannot be compared, definitions, owners
    and grants that read differently are warnings, for another major writes them in other words.
    """
    return [
        *_tables(expected.tables, found.tables),
        *_sequences(expected, found),
        *_large_objects(expected, found),
        *_objects(expected.catalog, found.catalog, by_catalog=by_catalog),
    ]


def finding(subject: str, problem: str, severity: str = ERROR) -> Finding:
    """Make a finding of this comparison."""
    hint = say("Do not rely on this backup; make a new one and report this.")
    if severity == WARNING:
        hint = say("Compare the two definitions; mostly they mean the same.")
    return Finding(subject, problem, hint, severity, CHECK, "backup")


def _tables(expected: list[TableContent], found: list[TableContent]) -> Iterator[Finding]:
    """Yield tables that are missing, too many, or hold other rows."""
    there = {(table.schema, table.name): table for table in found}
    for table in expected:
        subject = f"{table.schema}.{table.name}"
        other = there.pop((table.schema, table.name), None)
        if other is None:
            yield finding(subject, say("the table is missing"))
        elif (other.rows, other.fingerprint) != (table.rows, table.fingerprint):
            yield finding(
                subject,
                say(
                    "its content differs: {expected} rows backed up, {found} found",
                    expected=table.rows,
                    found=other.rows,
                ),
            )
    for schema, name in there:
        yield finding(f"{schema}.{name}", say("the table is not in the backup"))


def _sequences(expected: Contents, found: Contents) -> Iterator[Finding]:
    """Yield sequences that are missing, or stand where they did not stand while the dump was made."""
    there = {(one.schema, one.name): one.last for one in found.sequences}
    for sequence in expected.sequences:
        subject = f"{sequence.schema}.{sequence.name}"
        position = there.get((sequence.schema, sequence.name))
        if position is None:
            yield finding(subject, say("the sequence is missing"))
            continue
        low, high = sorted((sequence.first[0], sequence.last[0]))
        definition = _definition_of(sequence, expected.catalog)
        if definition.get("cycle"):  # it may have begun again meanwhile
            low, high = definition["min"], definition["max"]
        same = position in (sequence.first, sequence.last)
        moving = sequence.first != sequence.last
        if not same and not (moving and low <= position[0] <= high):
            yield finding(
                subject,
                say(
                    "the sequence stands at {found} instead of {expected}",
                    found=position[0],
                    expected=max(sequence.first[0], sequence.last[0]),
                ),
            )


def _definition_of(sequence: SequencePosition, definitions: Catalog) -> Definition:
    """Return a sequence's definition from the catalog, whose keys quote names as PostgreSQL does."""
    names = [
        name if re.fullmatch("[a-z_][a-z0-9_$]*", name) else '"' + name.replace('"', '""') + '"'
        for name in (sequence.schema, sequence.name)
    ]
    if sequence.schema == "public":
        return definitions.get(f"sequence {names[1]}", {})
    keys = (f"sequence {names[0]}.{names[1]}", f'sequence "{sequence.schema}".{names[1]}')  # a keyword as a schema
    return next((definitions[key] for key in keys if key in definitions), {})


def _large_objects(expected: Contents, found: Contents) -> Iterator[Finding]:
    """Yield a finding where the large objects differ."""
    if expected.large_objects != found.large_objects:
        yield finding("pg_largeobject", say("the large objects differ"))


def _objects(expected: Catalog, found: Catalog, *, by_catalog: bool) -> Iterator[Finding]:
    """Yield objects that are missing, too many, or read differently."""
    for key, definition in expected.items():
        # pg_dump leaves out an index that is not valid (an interrupted CREATE INDEX CONCURRENTLY leaves one).
        if key.startswith("index ") and not definition.get("valid", True):
            continue
        if key not in found:
            yield finding(key, say("{key} is missing", key=key))
            continue
        how = catalog.differences(_comparable(key, definition), _comparable(key, found[key])) if by_catalog else []
        if how:
            yield finding(key, say("{key} reads differently: {how}", key=key, how="; ".join(how)), WARNING)
    for key in found.keys() - expected.keys():
        yield finding(key, say("{key} is not in the backup", key=key))


def _comparable(key: str, definition: Definition) -> Definition:
    """Return a definition without what a restore may rightly write differently."""
    kind = key.split(" ", 1)[0]
    values: Definition = {}
    for name, value in definition.items():
        if kind == "extension" and name in ("version", "owner"):
            continue  # CREATE EXTENSION takes what the server has, and gives it to whoever restores
        if name != "acl":
            values[name] = catalog.canonical(value)
    grants = _grants(kind, definition)
    if grants:
        values["acl"] = grants
    return values


def _grants(kind: str, definition: Definition) -> str:
    """Return the grants in one order, without what the owner has anyway."""
    owner = definition.get("owner", "")
    written = definition.get("acl")
    if written is None:
        public = _PUBLIC_BY_DEFAULT.get(kind)
        items = {f"{public}/{owner}"} if public else set()
    else:
        items = set(str(written).strip("{}").split(","))
    return ",".join(sorted(item for item in items if item and not (owner and item.startswith(f"{owner}="))))
