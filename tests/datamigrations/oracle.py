"""What an import has to bring about, worked out row by row in plain Python: slow, and none of our code."""

from __future__ import annotations

import json
import re
import unicodedata
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")
BLANKS = " \t\n\r\f\v\u00a0\u3000"
STATUS = {"0": "INACTIVE", "1": "ACTIVE", "2": "BANNED"}
ROLES = ("user", "admin", "super_admin")
LONGEST = {
    "users": {
        "id": 64, "email": 255, "name": 255, "username": 255, "agreed_agreement_version": 20, "image": 500,
        "twitter_url": 500,
    },
    "projects": {"project_name": 255, "batch_id": 36},
    "project_details": {},
    "llm_logs": {"provider": 50, "model": 100, "scenario": 100, "temporary_page_id": 100},
    "invitation_codes": {"code": 50},
}  # fmt: skip
REQUIRED = {
    "users": ("id",),
    "projects": ("id", "user_id", "project_name"),
    "project_details": ("project_id", "page_id"),
    "llm_logs": ("id", "provider", "model", "request_prompts", "request_config", "status"),
    "invitation_codes": ("id", "code"),
}
UUIDS = {
    "users": (), "projects": ("id",), "project_details": ("project_id", "versionId"), "llm_logs": ("id",),
    "invitation_codes": ("id",),
}  # fmt: skip
JSONS = {
    "projects": ("pages", "style_tags"),
    "project_details": ("images",),
    "llm_logs": ("request_prompts", "request_config"),
}
CHOICES = {
    "users": {"status": ("0", "1", "2"), "role": (*ROLES, "verified")},
    "llm_logs": {"status": ("pending", "processing", "success", "failed")},
    "invitation_codes": {"status": ("available", "used", "expired")},
}
INTEGERS = {
    "projects": ("batch_index",),
    "project_details": ("page_id",),
    "llm_logs": ("page_id", "usage_prompt_tokens", "usage_completion_tokens", "usage_total_tokens", "duration_ms"),
}


def is_uuid(text):
    """Tell whether a text is a uuid in its usual form."""
    return bool(re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text))


def canonical(text):
    """Return an id as it is compared: a uuid in small letters, anything else as it is."""
    return text.lower() if text is not None and is_uuid(text) else text


def moment(text):
    """Return a time in UTC; one without zone is Shanghai's."""
    if text is None:
        return None
    when = datetime.fromisoformat(re.sub(r"([+-]\d\d)$", r"\1:00", text))
    return (when if when.tzinfo else when.replace(tzinfo=SHANGHAI)).astimezone(timezone.utc)


def address(text):
    """Return an e-mail address without blanks around it, None for none."""
    return (text or "").strip(BLANKS) or None


def folded(text):
    """Return an address as it is compared: NFKC, in small letters; None for none."""
    small = unicodedata.normalize("NFKC", address(text) or "").lower()
    return unicodedata.normalize("NFKC", small).strip() or None


def choice(text):
    """Return a value of a set, None for a blank one."""
    return (text or "").strip(" ") or None


@dataclass
class Person:
    """A source user and who it becomes."""

    row: dict
    rule: str = ""
    user: str | None = None
    says: str | None = None
    decided: str | None = None
    action: str | None = None

    @property
    def key(self):
        """The id as it is compared."""
        return canonical(self.row["id"])

    @property
    def address(self):
        """The address as it is kept."""
        return address(self.row["email"])

    @property
    def email(self):
        """The address as it is compared."""
        return folded(self.row["email"])

    @property
    def open_id(self):
        """The Feishu id, if the username is one."""
        name = self.row["username"] or ""
        return name if len(name) > 3 and name.startswith("ou_") else None

    @property
    def age(self):
        """What the oldest comes first by."""
        return (moment(self.row["created_at"]) or datetime.max.replace(tzinfo=timezone.utc), canonical(self.row["id"]))


@dataclass
class Oracle:
    """What has to come of a source (table → rows as text, in the source's order) and a target's users and accounts.

    ``users``: id → e-mail, status, role, version; ``accounts``: (provider, id) → user; ``names``: usernames.
    """

    source: dict
    users: dict
    accounts: dict
    names: set
    reasons: dict = field(default_factory=dict)
    people: list = field(default_factory=list)
    kept: dict = field(default_factory=dict)

    def reject(self, table, row, *reasons):
        """Note that a row does not fit."""
        self.reasons.setdefault(table, []).append((id(row), tuple(sorted(set(reasons)))))

    def faults(self, table, row):  # noqa: C901, PLR0912 - one branch a rule, in one place
        """Yield what is wrong with a row on its own."""
        for name in REQUIRED[table]:
            value = choice(row[name]) if name in CHOICES.get(table, {}) else row[name]
            if value is None:
                yield "missing"
        for name in UUIDS[table]:
            if row[name] is not None and not is_uuid(row[name]):
                yield "not_a_uuid"
        for name, longest in LONGEST[table].items():
            value = address(row[name]) if name == "email" else row[name]
            if value is not None and len(value) > longest:
                yield "too_long"
        for name, allowed in CHOICES.get(table, {}).items():
            if choice(row[name]) not in {None, *allowed}:
                yield "unknown_value"
        for name in INTEGERS.get(table, ()):
            if row[name] is not None:
                if not re.fullmatch(r"[ \t\n\r]*[+-]?[0-9]+[ \t\n\r]*", row[name]):
                    yield "not_an_integer"
                elif not -(2**31) <= int(row[name]) < 2**31:
                    yield "out_of_range"
        for name in JSONS.get(table, ()):
            if row[name] is not None and "\\u0000" in row[name]:
                yield "not_json"

    def work_out(self):
        """Work out everything."""
        self.identify()
        known = {canonical(person.row["id"]): person.user for person in self.people}
        self.kept["projects"] = self.rows("projects", lambda row: self.strangers(row, "user_id", known), self.by_id)
        projects = {canonical(row["id"]) for row in self.kept["projects"]}

        def homeless(row):
            if row["project_id"] is not None and canonical(row["project_id"]) not in projects:
                return ["unknown_project"] if is_uuid(row["project_id"]) else []
            return []

        self.kept["project_details"] = self.rows("project_details", homeless, self.by_page)
        self.kept["llm_logs"] = self.rows("llm_logs", lambda row: self.strangers(row, "user_id", known), self.by_id)
        codes = self.rows("invitation_codes", lambda row: self.strangers(row, "used_by_user_id", known), self.by_id)
        self.kept["invitation_codes"] = self.first_of(
            "invitation_codes", codes, lambda row: row["code"], "duplicate_code"
        )
        self.known, self.projects = known, projects
        return self

    @staticmethod
    def strangers(row, name, known):
        """Return the reason where a row's user is not known."""
        return ["unknown_user"] if row[name] is not None and canonical(row[name]) not in known else []

    @staticmethod
    def by_id(row):
        """Return the key of most tables."""
        return canonical(row["id"])

    @staticmethod
    def by_page(row):
        """Return the key of a page."""
        return canonical(row["project_id"]), int(row["page_id"])

    def rows(self, table, references, key):
        """Return the rows of a table that fit, the first of each key."""
        fit = []
        for row in self.source.get(table, []):
            faults = [*self.faults(table, row), *references(row)]
            if faults:
                self.reject(table, row, *faults)
            else:
                fit.append(row)
        return self.first_of(table, fit, key, "duplicate_page" if table == "project_details" else "duplicate_key")

    def first_of(self, table, rows, key, reason):
        """Return the oldest row of each key, of two as old the one that comes first; reject the others."""
        created = "request_timestamp" if table == "llm_logs" else "created_at"
        never = datetime.max.replace(tzinfo=timezone.utc)
        order = sorted(rows, key=lambda row: (moment(row[created]) or never, canonical(row.get("id") or "")))
        chosen = {}
        for row in order:
            if key(row) in chosen:
                self.reject(table, row, reason)
            else:
                chosen[key(row)] = row
        taken = {id(row) for row in chosen.values()}
        return [row for row in rows if id(row) in taken]

    def identify(self):
        """Find out who everybody is."""
        fit = [Person(row) for row in self.rows("users", lambda _row: [], self.by_id)]
        for person in fit:
            self.find(person)
        for person in [one for one in fit if one.rule == "ambiguous"]:
            self.reject("users", person.row, "ambiguous_email")
            fit.remove(person)
        for group in self.groups([one for one in fit if not one.rule]):
            self.settle(group, fit)
        self.people = [one for one in fit if one.rule]
        for user in {person.user for person in self.people}:
            order = ["feishu", "email", "created", "merged"]
            same = [one for one in self.people if one.user == user]
            for person in sorted(same, key=lambda one: (order.index(one.rule), one.age))[1:]:
                person.rule = "merged"

    def find(self, person):
        """Try the rules on one person."""
        if ("feishu", person.open_id) in self.accounts:
            person.rule, person.user = "feishu", self.accounts["feishu", person.open_id]
        elif person.email:
            found = [one for one, (email, *_) in self.users.items() if folded(email) == person.email]
            if found:
                person.rule, person.user = ("email", found[0]) if len(found) == 1 else ("ambiguous", None)

    @staticmethod
    def groups(people):
        """Return the people in groups that hang together by addresses and Feishu ids."""
        groups = []
        for person in people:
            marks = {("email", person.email), ("feishu", person.open_id)} - {("email", None), ("feishu", None)}
            joined = [group for group in groups if group[0] & marks]
            groups = [group for group in groups if not group[0] & marks]
            members = [one for group in joined for one in group[1]]
            groups.append((marks.union(*(group[0] for group in joined)), [*members, person]))
        return [(marks, sorted(members, key=lambda one: one.age)) for marks, members in groups]

    def settle(self, group, fit):
        """Decide who a group of newcomers becomes."""
        marks, members = group
        leader = members[0]
        linked = self.links(fit, marks)
        emails = {folded(identifier) for provider, identifier in self.accounts if provider == "email"}
        fault = None
        if len(linked) > 1:
            fault = "ambiguous_email"
        elif not linked and not leader.open_id and leader.email in emails:
            fault = "account_taken"
        if fault:
            for person in members:
                self.reject("users", person.row, fault)
                fit.remove(person)
            return
        own = canonical(leader.row["id"])
        new = own if is_uuid(own) and own not in self.users else f"new {own}"
        user = linked.pop() if linked else new
        for person in members:
            person.user = user
            person.rule = "created" if user == new and person is leader else "merged"

    @staticmethod
    def links(fit, marks):
        """Return the users of those who were found and share an address or id with a group."""
        found = {"map", "decision", "feishu", "email"}
        return {
            one.user for one in fit if one.rule in found and {("email", one.email), ("feishu", one.open_id)} & marks
        }

    def expected_names(self):
        """Return the usernames of the new users, by source id."""
        created = sorted((one for one in self.people if one.rule == "created"), key=lambda one: one.age)
        bases = {}
        for person in created:
            before = (address(person.row["email"]) or "").split("@")[0]
            own = person.row["username"]
            bases[id(person)] = own if (own or "").strip(" ") else before or "user_" + canonical(person.row["id"])[:8]
        taken, names = set(self.names), {}
        for person in created:
            if bases[id(person)] not in taken:
                names[canonical(person.row["id"])] = bases[id(person)]
                taken.add(bases[id(person)])
        for person in created:
            if canonical(person.row["id"]) not in names:
                number = 2
                while f"{bases[id(person)][:240]}-{number}" in taken:
                    number += 1
                names[canonical(person.row["id"])] = f"{bases[id(person)][:240]}-{number}"
                taken.add(names[canonical(person.row["id"])])
        return names

    def expected_takeovers(self):
        """Return (status, role, version) of the matched users, and how many roles are withheld."""
        found, withheld = {}, 0
        for person in self.people:
            if person.rule in {"feishu", "email"}:
                _, status, role, version = self.users[person.user]
                wanted = {"verified": "user"}.get(choice(person.row["role"]), choice(person.row["role"])) or role
                if ROLES.index(wanted) > ROLES.index(role):
                    wanted, withheld = role, withheld + 1
                status = STATUS.get(choice(person.row["status"]), status)
                found[person.user] = (status, wanted, person.row["agreed_agreement_version"] or version)
        return found, withheld

    def as_json(self, text):
        """Return a json value of the source."""
        return None if text is None else json.loads(text)


def new_id(text):
    """Tell whether a user's id is one that nobody could foresee."""
    return text.startswith("new ") or not uuid.UUID(text)
