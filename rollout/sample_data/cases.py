"""The legacy clients and cases, by their index alone, and the rows of the tables about them.

Case ``c`` belongs to client ``c % clients`` and its tenant.

* ``c % 4 == 0``: nobody's; status EXPIRED where ``c % 32 == 0``, else PENDING.
* All others are spread over the lawyers, but lawyer ``n`` (``people.lawyer(n)``) gets none where ``n % 5 == 4``, and
  has only completed ones where ``n % 5 == 3``; otherwise the status goes through ``STATUSES`` by ``c % 7``.
* Every other case has a log, every tenth an insurance; each completed one a payment, split in two, and every
  thirteenth of these a refund too.
"""
# ruff: noqa: PLR2004 - rows are told apart by their index

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rollout.sample_data import people
from rollout.sample_data.names import CITIES, firm, person
from rollout.sample_data.stream import NULL, day, mix, moment, uuid_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.sample_data.people import Row, Spaces

STATUSES = ("ASSIGNED", "IN_PROGRESS", "COMPLETED", "CLOSED", "IN_PROGRESS", "COMPLETED", "EXPIRED")


@dataclass(frozen=True)
class Docket:
    """The cases of so many users: who has which."""

    ids: Spaces
    users: int
    cases: int

    @cached_property
    def clients(self) -> int:
        """How many clients there are: one to 25 cases, at least one where there are users."""
        return max(self.cases // 25, 1) if self.users else 0

    @cached_property
    def busy_lawyers(self) -> int:
        """How many lawyers get cases."""
        number = people.lawyers(self.users)
        return number - number // 5

    def assignment(self, case: int) -> tuple[int | None, str]:
        """Return the user index of the case's lawyer (None: nobody's), and the case's status."""
        if case % 4 == 0 or not self.busy_lawyers:
            return None, "EXPIRED" if case % 32 == 0 else "PENDING"
        turn = case - case // 4 - 1  # counts the cases that are somebody's
        group, member = divmod(turn * 7919 % self.busy_lawyers, 4)
        done = member == 3
        return people.lawyer(group * 5 + member), "COMPLETED" if done else STATUSES[case % 7]

    def owner(self, case: int) -> int:
        """Return the user index of the Sales user who owns the case's client."""
        return people.sales_owner(case % self.clients, self.users)


def money(cents: int) -> str:
    """Return cents as a decimal number."""
    return f"{cents // 100}.{cents % 100:02d}"


def amount(docket: Docket, case: int) -> int:
    """Return what a case is about, in cents."""
    return 100_00 + mix(docket.ids.cases + case) % 50_000_000


def client_rows(docket: Docket) -> Iterator[Row]:
    """Yield clients, in the order of ``legacy.COLUMNS``."""
    for number in range(docket.clients):
        bits = mix(docket.ids.clients + number)
        owner = people.sales_owner(number, docket.users)
        yield (
            uuid_digits(docket.ids.clients, number),
            uuid_digits(docket.ids.tenants, people.tenant(owner)),
            f"{firm(bits)} {number}",
            ("bank", "lender", NULL)[number % 3],
            person(bits).full_name,
            people.phone(number),
            f"contact{number}@client.example",
            uuid_digits(docket.ids.users, owner),
            str(bits % 400),
            money(bits % 900_000_000),
            f"0.{bits % 10_000:04d}",
            moment(bits),
            moment(bits, 9),
        )


def case_rows(docket: Docket) -> Iterator[Row]:
    """Yield cases, in the order of ``legacy.COLUMNS``."""
    ids = docket.ids
    for case in range(docket.cases):
        bits = mix(ids.cases + case)
        lawyer, status = docket.assignment(case)
        owner = docket.owner(case)
        city = CITIES[case % len(CITIES)]
        yield (
            uuid_digits(ids.cases, case),
            uuid_digits(ids.tenants, people.tenant(owner)),
            uuid_digits(ids.clients, case % docket.clients),
            f"LSK-{bits % 9 + 2015}-{case:08d}",
            f'{{"name": "{person(bits).full_name}", "city": "{city}", "phone": "12{case % 10**9:09d}"}}',
            money(amount(docket, case)),
            status,
            NULL if lawyer is None else uuid_digits(ids.users, lawyer),
            uuid_digits(ids.users, owner),
            str(bits % 101),
            NULL if case % 3 else str(bits % 60 + 40),
            day(bits),
            day(bits, 30) if lawyer is not None else NULL,
            ("VALID", "EXPIRING_SOON", "EXPIRED")[max(case % 10 - 7, 0)],
            f"{city}借款纠纷\\t本金 {bits % 90} 万元" if case % 5 == 0 else NULL,
            '["批量", "urgent"]' if case % 6 == 0 else NULL,
            moment(bits, 31),
            moment(bits, 80),
            moment(bits, 80) if status == "COMPLETED" else NULL,
        )


def case_log_rows(docket: Docket) -> Iterator[Row]:
    """Yield a log for every other case, in the order of ``legacy.COLUMNS``."""
    for case in range(1, docket.cases, 2):
        bits = mix(docket.ids.cases + case)
        lawyer, status = docket.assignment(case)
        yield (
            uuid_digits(docket.ids.case_logs, case),
            uuid_digits(docket.ids.cases, case),
            NULL if lawyer is None else uuid_digits(docket.ids.users, lawyer),
            f"状态变更为 {status}",
            f'{{"from": "PENDING", "to": "{status}"}}',
            f"192.0.2.{case % 255}",
            moment(bits, 79),
        )


def insurance_rows(docket: Docket) -> Iterator[Row]:
    """Yield an insurance for every tenth case, in the order of ``legacy.COLUMNS``."""
    states = ("PENDING", "ACTIVE", "CLAIMED", "EXPIRED")
    for case in range(0, docket.cases, 10):
        bits = mix(docket.ids.cases + case)
        cover = amount(docket, case)
        yield (
            uuid_digits(docket.ids.insurances, case),
            uuid_digits(docket.ids.cases, case),
            f"P{case:012d}",
            f"{CITIES[bits % len(CITIES)]}财产保险",
            money(cover // 50),
            money(cover),
            states[case // 10 % 4],
            day(bits),
            day(bits, 365),
            moment(bits, 32),
            moment(bits, 33),
        )


def _payments(docket: Docket) -> Iterator[tuple[int, int]]:
    """Yield (number of the transaction, case): a payment 2c for each completed case, a refund 2c + 1 for some."""
    for case in range(docket.cases):
        if docket.assignment(case)[1] == "COMPLETED":
            yield 2 * case, case
            if case % 13 == 0:
                yield 2 * case + 1, case


def transaction_rows(docket: Docket) -> Iterator[Row]:
    """Yield payments and refunds, in the order of ``legacy.COLUMNS``."""
    for number, case in _payments(docket):
        bits = mix(docket.ids.cases + case)
        refund = number % 2 == 1
        yield (
            uuid_digits(docket.ids.transactions, number),
            uuid_digits(docket.ids.cases, case),
            money(amount(docket, case) // (10 if refund else 2)),
            "REFUND" if refund else "PAYMENT",
            "PENDING" if refund else "COMPLETED",
            ("alipay", "wechat", NULL)[case % 3],
            f"TX{number:016d}" if case % 3 < 2 else NULL,
            "退款" if refund else "Repayment / 还款",
            moment(bits, 80),
            moment(bits, 81),
            NULL if refund else moment(bits, 81),
        )


def commission_rows(docket: Docket) -> Iterator[Row]:
    """Yield two splits a payment, in the order of ``legacy.COLUMNS``."""
    for number, case in _payments(docket):
        if number % 2:
            continue
        bits = mix(docket.ids.cases + case)
        lawyer = docket.assignment(case)[0] or 0
        paid = case % 4 != 3
        half = amount(docket, case) // 2
        for split, (user, role, percent) in enumerate(((lawyer, "Lawyer", 30), (docket.owner(case), "Sales", 5))):
            yield (
                uuid_digits(docket.ids.commission_splits, number + split),
                uuid_digits(docket.ids.transactions, number),
                uuid_digits(docket.ids.users, user),
                role,
                money(half * percent // 100),
                f"0.{percent:02d}00",
                "PAID" if paid else "PENDING",
                moment(bits, 82),
                moment(bits, 90) if paid else NULL,
            )
