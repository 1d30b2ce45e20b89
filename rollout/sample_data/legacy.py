"""A realistic legacy Lawsker database of any size; ``people`` and ``cases`` say which row is how.

Nobody real is in it: no password hash is one, no phone number, id card or e-mail address can exist.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from rollout.sample_data import cases as of_cases
from rollout.sample_data import people
from rollout.sample_data.cases import Docket
from rollout.sample_data.neighbours import create_neighbours, fill_neighbours
from rollout.sample_data.people import Row, Spaces
from rollout.sample_data.stream import copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from rollout.sample_data.stream import Progress

SQL = Path(__file__).parent.parent / "sql"

COLUMNS = {
    "tenants": "id name tenant_code mode status domain feature_flags created_at updated_at",
    "roles": "id tenant_id name description permissions created_at updated_at",
    "system_configs": "id tenant_id category key value is_active is_editable created_at updated_at",
    "users": "id tenant_id username password_hash email phone_number status created_at updated_at last_login",
    "profiles": "user_id full_name id_card_number qualification_details did verification_status bio created_at"
    " updated_at",
    "user_roles": "user_id role_id assigned_at",
    "wallets": "user_id balance withdrawable_balance frozen_balance total_earned total_withdrawn commission_count"
    " created_at updated_at",
    "clients": "id tenant_id name client_type contact_person contact_phone contact_email sales_owner_id total_cases"
    " total_amount success_rate created_at updated_at",
    "cases": "id tenant_id client_id case_number debtor_info case_amount status assigned_to_user_id sales_user_id"
    " ai_risk_score data_quality_score debt_creation_date last_follow_up_date legal_status description tags created_at"
    " updated_at completed_at",
    "case_logs": "id case_id user_id action details ip_address created_at",
    "insurances": "id case_id policy_number insurance_company premium_amount coverage_amount status effective_date"
    " expiry_date created_at updated_at",
    "transactions": "id case_id amount transaction_type status payment_gateway gateway_txn_id description created_at"
    " updated_at completed_at",
    "commission_splits": "id transaction_id user_id role_at_split amount percentage status created_at paid_at",
    "feishu_auths": "id user_id open_id union_id access_token refresh_token token_expires_at created_at updated_at",
}
"""The columns that rows fill, in their order; the others stay NULL."""

_PLAIN_INDEXES = text(
    "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index"
    " WHERE indrelid = to_regclass(:table) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)"
    " ORDER BY 1"
)


def create_legacy_schema(connection: Connection, *, other_tables: int = 30, feishu_auths: bool = False) -> None:
    """Create the legacy core, ``alembic_version``, and tables and other objects of other people.

    ``other_tables``: how many tables are other people's: 0 (then nothing at all is), or at least 16, which come in
    every kind; fewer is taken as 16. ``feishu_auths``: the older sign-in table is there too.
    """
    connection.exec_driver_sql((SQL / "legacy_schema.sql").read_text(encoding="utf-8"))
    if feishu_auths:
        connection.exec_driver_sql((SQL / "legacy_feishu_auths.sql").read_text(encoding="utf-8"))
    if other_tables:
        connection.exec_driver_sql((SQL / "legacy_neighbours.sql").read_text(encoding="utf-8"))
        create_neighbours(connection, other_tables)


def fill_legacy(
    connection: Connection, *, users: int, cases: int | None = None, seed: int = 1, progress: Progress | None = None
) -> None:
    """Fill an empty legacy database, within the caller's transaction: the same arguments give the same rows.

    ``cases``: as many as users where None; none where there are no users. Rows stream: memory does not grow with them.
    """
    docket = Docket(Spaces.of(seed), users, (users if cases is None else cases) if users else 0)
    unchecked = _without_key_checks(connection)
    tables = _tables(connection, docket)
    for table, (rows, total) in tables.items():
        with _index_afterwards(connection, table):
            copy(connection, table, COLUMNS[table].split(), rows, total=total, progress=progress)
    fill_neighbours(connection, docket)
    if unchecked:
        connection.execute(text("SET LOCAL session_replication_role = origin"))
    connection.execute(text("ANALYZE " + ", ".join(tables)))


def _without_key_checks(connection: Connection) -> bool:
    """Switch off the row-by-row foreign key checks, if we may, and tell: they take long, and the rows fit anyway.

    https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-SESSION-REPLICATION-ROLE
    """
    try:
        with connection.begin_nested():
            connection.execute(text("SET LOCAL session_replication_role = replica"))
    except DBAPIError:
        return False
    return True


@contextmanager
def _index_afterwards(connection: Connection, table: str) -> Iterator[None]:
    """Take a table's indexes off while it is filled, those of constraints aside, and make them again as they were."""
    found = connection.execute(_PLAIN_INDEXES, {"table": table}).all()
    for index in found:
        connection.execute(text(f"DROP INDEX {index.name}"))
    yield
    for index in found:
        connection.exec_driver_sql(index.definition)


def _tables(connection: Connection, docket: Docket) -> dict[str, tuple[Iterator[Row], int | None]]:
    """Return the tables in foreign-key order, with their rows and, where it is known, how many."""
    ids, users = docket.ids, docket.users
    tables: dict[str, tuple[Iterator[Row], int | None]] = {
        "tenants": (people.tenant_rows(ids), None),
        "roles": (people.role_rows(ids), None),
        "system_configs": (people.system_config_rows(ids), None),
        "users": (people.user_rows(ids, users), users),
        "profiles": (people.profile_rows(ids, users), users - users // 11),
        "user_roles": (people.user_role_rows(ids, users), None),
        "wallets": (people.wallet_rows(ids, users), None),
        "clients": (of_cases.client_rows(docket), docket.clients),
        "cases": (of_cases.case_rows(docket), docket.cases),
        "case_logs": (of_cases.case_log_rows(docket), docket.cases // 2),
        "insurances": (of_cases.insurance_rows(docket), (docket.cases + 9) // 10),
        "transactions": (of_cases.transaction_rows(docket), None),
        "commission_splits": (of_cases.commission_rows(docket), None),
    }
    if connection.execute(text("SELECT to_regclass('public.feishu_auths') IS NOT NULL")).scalar_one():
        tables["feishu_auths"] = (people.feishu_rows(ids, users), None)
    return tables
