"""Who the legacy users are, by their index alone, and the rows of the tables about people.

User ``i`` stands at ``place = i % 20`` of ``block = i // 20``; the block's tenant is ``block % 5``.

======== ============================================================================================================
place
======== ============================================================================================================
0–11     role User; place 1 in every third block also holds the *global* role User (one of no tenant)
12–15    role Lawyer; in every third block place 12 is Admin too, 13 User too, 14 Lawyer in the next tenant too
16       role Sales; in every third block User too
17       role Institution
18       no role at all
19       role Admin; in every third block User too
7, 17    no e-mail address (``i % 10 == 7``)
3, 13    a mixed-case e-mail address, such as ``Yong.Ma.3@Example.ORG`` (``i % 10 == 3``)
5, 15    signs in with Feishu (a row of feishu_auths, where the table is there)
======== ============================================================================================================

``i % 7 == 5``: no phone number. ``i % 11 == 10``: no profile. Status: ``i % 97 == 96`` BANNED, else ``i % 29 == 28``
INACTIVE, else ``i % 23 == 22`` PENDING, else ACTIVE. Lawyers and Sales have wallets.
"""
# ruff: noqa: PLR2004 - rows are told apart by their index

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rollout.sample_data.names import EMAIL_DOMAINS, firm, person
from rollout.sample_data.stream import NULL, day, mix, moment, space, uuid_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 20
TENANTS = 5
ROLES = ("Admin", "Lawyer", "Sales", "Institution", "User")
GLOBAL_USER_ROLE = TENANTS * len(ROLES)

_ADMIN, _LAWYER, _SALES, _INSTITUTION, _USER = range(5)
_FIRST_LAWYER, _LAWYERS_A_BLOCK = 12, 4
_SALES_PLACE, _INSTITUTION_PLACE, _ROLELESS_PLACE = 16, 17, 18
_SECOND_ROLE = {12: _ADMIN, 13: _USER, 16: _USER, 19: _USER}

_TENANT_ROWS = (
    ("Lawsker 主站", "lawsker", "SAAS", "ACTIVE", "lawsker.example"),
    ("恒信律师事务所", "hengxin", "ON_PREMISE", "ACTIVE", "hengxin.example"),
    ("Pacific Recovery Ltd.", "pacific", "SAAS", "TRIAL", NULL),
    ("远大商业银行", "yuanda_bank", "ON_PREMISE", "ACTIVE", NULL),
    ("旧客户（停用）", "old-client", "SAAS", "SUSPENDED", "old.example"),
)

Row = tuple[str, ...]


class Spaces(NamedTuple):
    """The spaces of one seed's ids, by table."""

    tenants: int
    roles: int
    users: int
    clients: int
    cases: int
    system_configs: int
    feishu_auths: int
    case_logs: int
    insurances: int
    transactions: int
    commission_splits: int

    @classmethod
    def of(cls, seed: int) -> Spaces:
        """Return the spaces of a seed."""
        return cls(*(space(seed, f"legacy {name}") for name in cls._fields))


def email(index: int) -> str | None:
    """Return legacy user ``index``'s e-mail address, None for one without; the same under every seed."""
    if index % 10 == 7:
        return None
    who = person(index)
    domain = EMAIL_DOMAINS[index % len(EMAIL_DOMAINS)]
    if index % 10 == 3:
        return f"{who.given.title()}.{who.family.title()}.{index}@{domain.title()[:-3]}{domain[-3:].upper()}"
    return f"{who.given}.{who.family}.{index}@{domain}"


def username(index: int) -> str:
    """Return legacy user ``index``'s username; the same under every seed."""
    who = person(index)
    form = index % 4
    if form == 0:
        return f"{who.family}{who.given}{index}"
    if form == 1:
        return f"{who.given}.{who.family}_{index}"
    if form == 2:
        return f"{who.full_name} {index}"
    return f"{who.given.title()}{who.family.title()}-{index}"


def feishu_open_id(index: int) -> str | None:
    """Return legacy user ``index``'s Feishu open id, None for one without; the same under every seed."""
    return f"ou_{mix(index):016x}{mix(~index & 0xFFFFFFFF):016x}" if index % 10 == 5 else None


def phone(index: int) -> str:
    """Return a number that no mobile phone has: Chinese ones begin with 13 to 19."""
    return f"12{index:09d}" if index % 7 != 5 else NULL


def status(index: int) -> str:
    """Return legacy user ``index``'s status."""
    if index % 97 == 96:
        return "BANNED"
    if index % 29 == 28:
        return "INACTIVE"
    return "PENDING" if index % 23 == 22 else "ACTIVE"


def tenant(index: int) -> int:
    """Return the number (0 to 4) of legacy user ``index``'s tenant."""
    return index // BLOCK % TENANTS


def roles(index: int) -> tuple[int, ...]:
    """Return legacy user ``index``'s roles: tenant * 5 + position in ``ROLES``, or the global User role."""
    block, place = divmod(index, BLOCK)
    home = block % TENANTS * len(ROLES)
    if place == _ROLELESS_PLACE:
        return ()
    if place < _FIRST_LAWYER:
        first = _USER
    elif place < _SALES_PLACE:
        first = _LAWYER
    else:
        first = {_SALES_PLACE: _SALES, _INSTITUTION_PLACE: _INSTITUTION}.get(place, _ADMIN)
    if block % 3:
        return (home + first,)
    if place in _SECOND_ROLE:
        return home + first, home + _SECOND_ROLE[place]
    if place == 14:
        return home + first, (block + 1) % TENANTS * len(ROLES) + first
    return (home + first, GLOBAL_USER_ROLE) if place == 1 else (home + first,)


def lawyers(users: int) -> int:
    """Return how many of the first ``users`` users are lawyers."""
    blocks, rest = divmod(users, BLOCK)
    return blocks * _LAWYERS_A_BLOCK + min(max(rest - _FIRST_LAWYER, 0), _LAWYERS_A_BLOCK)


def lawyer(number: int) -> int:
    """Return the user index of the ``number``-th lawyer."""
    block, place = divmod(number, _LAWYERS_A_BLOCK)
    return block * BLOCK + _FIRST_LAWYER + place


def sales_owner(number: int, users: int) -> int:
    """Return the user index of a Sales user for the ``number``-th client (user 0 where there is none)."""
    blocks = (users + BLOCK - _SALES_PLACE - 1) // BLOCK
    return number % blocks * BLOCK + _SALES_PLACE if blocks else 0


def tenant_rows(ids: Spaces) -> Iterator[Row]:
    """Yield the tenants: id, name, tenant_code, mode, status, domain, feature_flags, created_at, updated_at."""
    for number, (name, code, mode, state, domain) in enumerate(_TENANT_ROWS):
        flags = f'{{"ai": {"true" if number % 2 else "false"}, "tier": {number}}}'
        yield (
            uuid_digits(ids.tenants, number),
            name,
            code,
            mode,
            state,
            domain,
            flags,
            moment(number),
            moment(number, 30),
        )


def role_rows(ids: Spaces) -> Iterator[Row]:
    """Yield five roles a tenant, then the global User role: id, tenant_id, name, description, permissions, times."""
    for number in range(GLOBAL_USER_ROLE + 1):
        of_tenant = number < GLOBAL_USER_ROLE
        home = uuid_digits(ids.tenants, number // len(ROLES)) if of_tenant else NULL
        name = ROLES[number % len(ROLES)] if of_tenant else "User"
        permissions = f'["{name.lower()}.read", "{name.lower()}.write"]'
        yield uuid_digits(ids.roles, number), home, name, f"{name} 角色", permissions, moment(number), moment(number, 3)


def system_config_rows(ids: Spaces) -> Iterator[Row]:
    """Yield settings: id, tenant_id, category, key, value, is_active, is_editable, created_at, updated_at."""
    keys = (
        ("commission", "platform_rate", "0.2"),
        ("risk", "limits", '{"min": 1, "max": 9}'),
        ("ui", "title", '"律思客"'),
    )
    for number in range(len(keys) * (TENANTS + 1)):
        owner, which = divmod(number, len(keys))
        home = uuid_digits(ids.tenants, owner) if owner < TENANTS else NULL
        id_ = uuid_digits(ids.system_configs, number)
        yield id_, home, *keys[which], "t" if number % 4 else "f", "t", moment(number), moment(number, 1)


def user_rows(ids: Spaces, users: int) -> Iterator[Row]:
    """Yield the users, in the order of the table's columns; the password hash is one that no hash function produces."""
    tenants = [uuid_digits(ids.tenants, number) for number in range(TENANTS)]
    for index in range(users):
        bits = mix(ids.users + index)
        later = bits % 400
        yield (
            uuid_digits(ids.users, index),
            tenants[tenant(index)],
            username(index),
            f"!{bits:016x}{mix(bits):016x}",
            email(index) or NULL,
            phone(index),
            status(index),
            moment(bits),
            moment(bits, later),
            moment(bits, later + 40) if index % 6 else NULL,
        )


def profile_rows(ids: Spaces, users: int) -> Iterator[Row]:
    """Yield profiles: user_id, full_name, id_card_number, qualification_details, did, verification_status, bio, times.

    The id cards' region code, 999999, is nobody's.
    """
    states = ("VERIFIED", "UNVERIFIED", "PENDING", "VERIFIED", "FAILED")
    for index in range(users):
        if index % 11 == 10:
            continue
        bits = mix(ids.users + index)
        born = f"{1950 + bits % 55}{1 + (bits >> 8) % 12:02d}{1 + (bits >> 16) % 28:02d}"
        practises = _FIRST_LAWYER <= index % BLOCK < _SALES_PLACE
        yield (
            uuid_digits(ids.users, index),
            person(index).full_name,
            f"999999{born}{index % 1000:03d}X" if index % 3 else NULL,
            f'{{"license": "A{index:09d}", "years": {bits % 30}, "areas": ["合同纠纷", "债务催收"]}}'
            if practises
            else NULL,
            f"did:example:{index:x}" if index % 50 == 0 else NULL,
            states[index % len(states)],
            f'{firm(bits)}，从业 {bits % 30} 年。\\n"Bio" \\\\o/' if index % 9 == 0 else NULL,
            moment(bits),
            moment(bits, bits % 100),
        )


def user_role_rows(ids: Spaces, users: int) -> Iterator[Row]:
    """Yield user_id, role_id, assigned_at."""
    of_role = [uuid_digits(ids.roles, number) for number in range(GLOBAL_USER_ROLE + 1)]
    for index in range(users):
        numbers = roles(index)
        if numbers:
            user, when = uuid_digits(ids.users, index), moment(mix(ids.users + index))
            for number in numbers:
                yield user, of_role[number], when


def wallet_rows(ids: Spaces, users: int) -> Iterator[Row]:
    """Yield wallets of lawyers and Sales, in the order of the table's columns without last_commission_at."""
    for index in range(users):
        if not _FIRST_LAWYER <= index % BLOCK <= _SALES_PLACE:
            continue
        bits = mix(ids.users + index)
        earned, frozen = bits % 10_000_000, bits % 500
        paid_out = earned // 2
        left = earned - paid_out
        sums = (
            f"{cents // 100}.{cents % 100:02d}" for cents in (left, max(left - frozen, 0), frozen, earned, paid_out)
        )
        yield uuid_digits(ids.users, index), *sums, str(bits % 90), moment(bits), moment(bits, bits % 90)


def feishu_rows(ids: Spaces, users: int) -> Iterator[Row]:
    """Yield Feishu sign-ins, in the order of the table's columns; the tokens are none."""
    for index in range(5, users, 10):
        bits = mix(ids.feishu_auths + index)
        yield (
            uuid_digits(ids.feishu_auths, index),
            uuid_digits(ids.users, index),
            feishu_open_id(index) or NULL,
            f"on_{bits:016x}",
            f"not-a-token-{bits:x}",
            f"not-a-token-either-{bits:x}" if index % 20 == 5 else NULL,
            f"{day(bits, 400)} 00:00:00+00",
            moment(bits),
            moment(bits, 20),
        )
