"""E-mail addresses as they are compared: without regard to blanks around them, to case, and to Unicode's NFKC forms.

ASCII addresses are lowered in SQL under the collation "C", so that no locale has a say (a Turkish one makes ``I`` a
dotless ``ı``). All others go through Python, in bounded batches, into a table of the transaction: the same result on
every server, also where it has no ``normalize`` (before PostgreSQL 13, and in other encodings than UTF-8).

Full-width letters, ligatures, the Kelvin sign, and composed or decomposed accents are the same then; ``ß`` is not
``ss`` (nothing folds it), ``é`` is not ``e``: other letters are other mailboxes. https://unicode.org/reports/tr15/
"""

from __future__ import annotations

import unicodedata
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import text

from datamigrations.sqltext import BLANKS

if TYPE_CHECKING:
    from datamigrations.job import Job

_BATCH = 5000
_LONGEST = 255
"""Characters that an address may have; longer ones fit nowhere, nor into an index."""
_NOT_ASCII = r"""COLLATE "C" ~ '[^\x01-\x7f]'"""

_FOREIGN = f"""
SELECT DISTINCT q.address FROM (
    SELECT btrim(w.email, {BLANKS}) AS address FROM rollout.import_converted_users AS w
    UNION ALL SELECT btrim(u.email, {BLANKS}) FROM public.users AS u
    UNION ALL SELECT btrim(a.provider_account_id, {BLANKS}) FROM public.user_accounts AS a WHERE a.provider = 'email'
) AS q WHERE q.address {_NOT_ASCII} AND char_length(q.address) <= {_LONGEST}
"""


def fold(address: str) -> str:
    """Return an address as it is compared; empty where nothing is left of it."""
    # Lowering may leave what NFKC composes, and NFKC may make blanks.
    lowered = unicodedata.normalize("NFKC", address).lower()
    return unicodedata.normalize("NFKC", lowered).strip(" \t\n\r\f\v")


def key(address: str) -> str:
    """Return SQL for the key of an address (SQL), NULL for none. Needs ``prepare``."""
    trimmed = f"btrim({address}, {BLANKS})"
    folded = f"(SELECT f.key FROM rollout.import_folded AS f WHERE f.address = {trimmed})"
    return f"nullif(CASE WHEN {trimmed} {_NOT_ASCII} THEN {folded} ELSE lower({trimmed} COLLATE \"C\") END, '')"


def prepare(job: Job) -> None:
    """Make ``import_folded``: the keys of all addresses of either side that are not ASCII."""
    job.temporary("import_folded", "SELECT ''::text AS address, ''::text AS key LIMIT 0")
    job.execute("CREATE UNIQUE INDEX ON rollout.import_folded (address)")
    query = text(_FOREIGN).execution_options(stream_results=True, yield_per=_BATCH)
    rows = job.connection.execute(query).scalars()
    while batch := list(islice(rows, _BATCH)):
        job.execute(
            "INSERT INTO rollout.import_folded SELECT * FROM unnest(CAST(:addresses AS text[]), CAST(:keys AS text[]))",
            addresses=batch,
            keys=[fold(address) for address in batch],
        )
    job.execute("ANALYZE rollout.import_folded")
