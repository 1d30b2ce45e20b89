"""Other people's tables beside the legacy core: the plain ones, and the rows of those that refer to users and cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout.database import quote
from rollout.sample_data.stream import NULL, copy, mix, moment, uuid_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from rollout.sample_data.cases import Docket

SPECIAL_TABLES = 16
"""How many tables sql/legacy_neighbours.sql makes."""

_PLAIN_NAMES = (
    "news_articles", "faq_entries", "banners", "mail_queue", "webhooks", "export_jobs", "login_history", "api_clients",
    "court_calendar", "contract_templates", "feature_toggles", "city_codes", "office_rooms", "payroll_runs",
)  # fmt: skip

_PLAIN_TABLE = """\
CREATE TABLE {table} (
    id         serial PRIMARY KEY,
    code       varchar(40) NOT NULL UNIQUE,
    title      text,
    payload    jsonb,
    amount     numeric(14, 4),
    active     boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO {table} (code, title, payload, amount, active, created_at, updated_at)
SELECT 'C' || n, '条目 ' || n, jsonb_build_object('n', n, 'even', mod(n, 2) = 0), n / 7.0, mod(n, 5) > 0, stamp, stamp
FROM generate_series(1, 20) AS n,
     LATERAL (SELECT timestamptz '2020-02-02 02:02+00' + n * interval '36 hours' AS stamp) AS s;
"""

_TOUCH = """\
CREATE TRIGGER {trigger} BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
"""


def create_neighbours(connection: Connection, tables: int) -> None:
    """Create plain tables, of 20 rows each, until there are ``tables``; every third keeps updated_at by trigger."""
    for number in range(tables - SPECIAL_TABLES):
        name = _PLAIN_NAMES[number] if number < len(_PLAIN_NAMES) else f"legacy_archive_{number:04d}"
        sql = _PLAIN_TABLE + (_TOUCH if number % 3 == 0 else "")
        connection.exec_driver_sql(sql.format(table=quote(name), trigger=quote(f"{name}_updated_at")))


def fill_neighbours(connection: Connection, docket: Docket) -> None:
    """Fill other people's tables that refer to users and cases, where they are there."""
    if not connection.execute(text("SELECT to_regclass('public.support_tickets') IS NOT NULL")).scalar_one():
        return
    tickets = ("user_id", "case_id", "priority", "subject", "closed_at", "created_at", "updated_at")
    copy(connection, "support_tickets", tickets, _tickets(docket))
    copy(connection, "user_devices", ("user_id", "device", "details", "created_at"), _devices(docket))
    connection.execute(text("REFRESH MATERIALIZED VIEW monthly_case_totals"))


def _tickets(docket: Docket) -> Iterator[tuple[str, ...]]:
    """Yield a ticket of every 25th user."""
    for index in range(0, docket.users, 25):
        bits = mix(docket.ids.users - index)
        yield (
            uuid_digits(docket.ids.users, index),
            uuid_digits(docket.ids.cases, bits % docket.cases) if docket.cases and index % 2 else NULL,
            ("low", "normal", "high", "urgent")[bits % 4],
            f"无法登录 / cannot sign in ({index})",
            moment(bits, 5) if bits % 3 else NULL,
            moment(bits),
            moment(bits, 5),
        )


def _devices(docket: Docket) -> Iterator[tuple[str, ...]]:
    """Yield a device of every 10th user."""
    for index in range(0, docket.users, 10):
        bits = mix(docket.ids.users - index)
        platform = ("iOS", "Android", "Windows")[bits % 3]
        yield uuid_digits(docket.ids.users, index), f"device-{bits:x}", f'{{"platform": "{platform}"}}', moment(bits)
