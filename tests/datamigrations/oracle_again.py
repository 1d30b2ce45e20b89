"""What a further import has to bring about, in plain Python: what is there already, decisions, conflicts, a retry."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field

from tests.datamigrations.oracle import ROLES, STATUS, Oracle, Person, canonical, choice, folded, is_uuid, moment

NOW = "the time of the import"
TEXTS = {
    "projects": ("project_name", "project_description", "project_style", "global_style_code", "batch_id"),
    "project_details": ("script", "styles", "html", "mermaid_content"),
    "llm_logs": ("provider", "model", "scenario", "response_content", "response_error", "status", "temporary_page_id"),
    "invitation_codes": ("code", "status"),
}
NUMBERS = {
    "projects": ("batch_index",),
    "project_details": ("page_id",),
    "llm_logs": ("page_id", "usage_prompt_tokens", "usage_completion_tokens", "usage_total_tokens", "duration_ms"),
    "invitation_codes": (),
}
JSON = {"projects": ("pages", "style_tags"), "project_details": ("images",),
        "llm_logs": ("request_prompts", "request_config"), "invitation_codes": ()}  # fmt: skip
TIMES = {"projects": (), "project_details": (), "llm_logs": ("response_timestamp",),
         "invitation_codes": ("expires_at", "used_at")}  # fmt: skip
CREATED = {"llm_logs": "request_timestamp"}
STAND_IN = {"llm_logs": "response_timestamp", "invitation_codes": None}
AGES = {"llm_logs": ("request_timestamp", "response_timestamp"), "invitation_codes": ("created_at", "used_at")}
USER = {"projects": "user_id", "llm_logs": "user_id", "invitation_codes": "used_by_user_id"}
TABLES = tuple(TEXTS)


def column(table, name, text):
    """Return a value of the target, given as text, in the form in which it is compared."""
    if text is None:
        return None
    if name in NUMBERS[table]:
        return int(text)
    if name in JSON[table]:
        return ("json", json.loads(text))
    if name.endswith(("_at", "_timestamp")):
        return moment(text)
    return text == "true" if name.startswith("is_") else text


def key_of(table, row):
    """Return the key of a row of the target."""
    return (row["project_id"], row["page_id"]) if table == "project_details" else row["id"]


def source_key(table, row):
    """Return the key under which a row of the source is kept in quarantine."""
    names = ("project_id", "page_id") if table == "project_details" else ("id",)
    return "/".join(row[name] or "" for name in names)


def plain(text):
    """Return what is the same in every way to write a uuid."""
    return re.sub("[^0-9A-Za-z]", "", text or "").lower()


@dataclass
class Target:
    """A target as it is: users (id → email, status, role, version, updated_at), accounts, names, the map, the rows.

    ``last``: rows as an import left them; ``seen``: what users were given, the source's time and the user's then;
    ``open``: quarantine.
    """

    users: dict
    accounts: dict
    names: set
    mapped: dict
    rows: dict
    last: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)
    open: list = field(default_factory=list)


@dataclass
class Again(Oracle):
    """What an import has to bring, whatever the target holds already."""

    target: Target = None
    decisions: dict = field(default_factory=dict)
    on_conflict: str = "newer"
    rising: bool = False
    retry: bool = False
    actions: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)

    @classmethod
    def of(cls, source, target, **options):
        """Begin with a source (table → rows as text) and a ``Target``."""
        users = {key: row[:4] for key, row in target.users.items()}
        return cls(source, users, target.accounts, target.names, target=target, **options)

    # What is read

    def restrict(self):
        """Leave of the source what a retry reads: rows that are open, and rivals of open ones for a key."""
        for table, rows in self.source.items():
            mine = [(key, reasons) for name, key, reasons in self.target.open if name == table]
            keys = {key for key, _ in mine if "//" not in f"/{key}/"}
            rivals = {
                plain(key.split("/")[0])
                for key, reasons in mine
                if key in keys and {"duplicate_key", "duplicate_page"} & set(reasons)
            }
            first = "project_id" if table == "project_details" else "id"
            self.source[table] = [
                row for row in rows if source_key(table, row) in keys or plain(row[first]) in rivals
            ]  # fmt: skip

    def left_open(self):
        """Return what is in quarantine afterwards: of a retry, what it did not read too."""
        found = []
        for table, rows in self.source.items():
            reasons = {}
            for row_id, codes in self.reasons.get(table, []):
                reasons.setdefault(row_id, set()).update(codes)
            found += [
                (table, source_key(table, row), tuple(sorted(reasons[id(row)]))) for row in rows if id(row) in reasons
            ]
        if self.retry:
            read = {(table, source_key(table, row)) for table, rows in self.source.items() for row in rows}
            found += [
                one for one in self.target.open if one[:2] not in read or "//" in f"/{one[1]}/"
            ]  # fmt: skip
        return sorted(found)

    # Who is who

    def identify(self):
        """Find out who everybody is: the map first, then decisions, then the rules."""
        self.there = {canonical(row["id"]) for row in self.source["users"]}
        fit = [Person(row) for row in self.rows("users", lambda _row: [], self.by_id)]
        for person in fit:
            self.recognise(person)
        self.check_decisions(fit)
        for reason, wrong in (
            ("ambiguous_email", [one for one in fit if one.rule == "ambiguous"]),
            ("skipped_by_decision", [one for one in fit if one.decided == "skip" and one.says is None]),
        ):
            self.reject_people(fit, wrong, reason)
        self.reject_people(fit, [one for one in fit if self.taken(one, fit)], "create_taken")
        for group in self.groups([one for one in fit if not one.rule]):
            self.settle(group, fit)
        self.people = [one for one in fit if one.rule]
        for user in {person.user for person in self.people}:
            self.speak(user)

    def recognise(self, person):
        """Try the map, the decision and the rules on one person."""
        known = self.target.mapped.get(person.key)
        action, target = self.decisions.get(person.key, (None if known else self.stays(person), None))
        person.decided = action
        if known:
            (person.user, person.says), person.rule = known, "map"
        elif action == "match":
            person.rule, person.user = "decision", target
        elif action is None:
            self.find(person)

    def stays(self, person):
        """Return what an earlier file decided that has not come about, and stands."""
        reasons = {one for table, key, found in self.target.open if table == "users" and canonical(key) == person.key
                   for one in found}  # fmt: skip
        return "skip" if "skipped_by_decision" in reasons else "create" if "create_taken" in reasons else None

    def check_decisions(self, fit):
        """Raise ``ValueError`` where the decisions cannot be followed."""
        keys = {person.key for person in fit}
        targets = Counter(target for action, target in self.decisions.values() if action == "match")
        for key, (action, target) in self.decisions.items():
            known = self.target.mapped.get(key)
            if key in self.there - keys and action == "skip":
                continue
            if key not in keys or (action == "match" and (target not in self.users or targets[target] > 1)):
                raise ValueError(key)
            if known and (action != "match" or known[0] != target):
                raise ValueError(key)

    def reject_people(self, fit, wrong, reason):
        """Put people into quarantine."""
        for person in wrong:
            self.reject("users", person.row, reason)
            fit.remove(person)

    def taken(self, person, fit):
        """Tell whether somebody who is to be created as decided would need what another one has or will have."""
        if person.decided != "create" or person.says is not None:
            return False
        emails = {folded(identifier) for provider, identifier in self.accounts if provider == "email"}
        others = [one for one in fit if one is not person and not one.rule]
        own = [email for email, *_ in self.users.values()]
        return (
            ("feishu", person.open_id) in self.accounts
            or (not person.open_id and person.email is not None and person.email in emails)
            or any(
                (one.open_id and one.open_id == person.open_id) or (one.email and one.email == person.email)
                for one in others
            )
            or (person.address is not None and person.address in own)
        )

    @staticmethod
    def groups(people):
        """Return groups; whoever is to be created as decided stands alone."""
        alone = [one for one in people if one.decided == "create"]
        return [*Oracle.groups([one for one in people if one not in alone]), *((set(), [one]) for one in alone)]

    def speak(self, user):
        """Choose who speaks for a user; all others are merged."""
        order = ["map", "decision", "feishu", "email", "created", "merged"]
        same = [one for one in self.people if one.user == user]
        unread = {key for key in self.target.mapped if self.retry or key in self.there} - {one.key for one in same}
        spoken = any(self.target.mapped[key][0] == user and self.target.mapped[key][1] != "merged" for key in unread)
        same.sort(key=lambda one: (one.says == "merged", order.index(one.rule), one.age))
        for place, person in enumerate(same):
            if place or person.says == "merged" or (spoken and person.says is None):
                person.rule = "merged"

    # What becomes of users

    def expected_users(self):
        """Work out what the users that were found become: ``after["users"]`` (id → status, role, version), actions."""
        self.after["users"] = {key: row[1:4] for key, row in self.target.users.items()}
        counts, self.withheld = Counter(), 0
        for person in [one for one in self.people if one.rule in {"map", "decision", "feishu", "email"}]:
            _, status, role, version, updated = self.target.users[person.user]
            wanted = {"verified": "user"}.get(choice(person.row["role"]), choice(person.row["role"])) or role
            if ROLES.index(wanted) > ROLES.index(role) and not self.rising:
                wanted, self.withheld = role, self.withheld + 1
            new = (
                STATUS.get(choice(person.row["status"]), status),
                wanted,
                person.row["agreed_agreement_version"]
                if person.row["agreed_agreement_version"] is not None
                else version,
            )
            action = (
                "unchanged"
                if new == (status, role, version)
                else self.user_action(person, (status, role, version), updated)
            )
            counts[action] += 1
            person.action = action
            if action == "update":
                self.after["users"][person.user] = new
        self.actions["users"] = counts

    def user_action(self, person, old, updated):
        """Decide about a user who would change."""
        if self.on_conflict != "newer":
            return "update" if self.on_conflict == "source" else "kept"
        theirs = moment(person.row["updated_at"]) or moment(person.row["created_at"])
        if person.rule != "map":
            return "update"
        given, age, then = self.target.seen.get(person.user, (None, None, None))
        if theirs and theirs > updated and (given == old or age is None or theirs > age):
            return "update"
        same_time = theirs is None or theirs >= updated or (then == updated and age is not None and theirs >= age)
        return "update" if given == old and (same_time or person.says != "created") else "kept"

    # What becomes of the other rows

    def work_out(self):
        """Work out everything."""
        if self.retry:
            self.restrict()
        self.identify()
        self.expected_users()
        known = {key: user for key, (user, _) in self.target.mapped.items()}
        known |= {person.key: person.user for person in self.people}
        self.known, self.defaulted = known, Counter()
        self.projects = {key.lower() for key in self.target.rows["projects"]}
        for table in TABLES:
            self.table(table)
            if table == "projects":
                self.projects |= set(self.after["projects"])
        return self

    def table(self, table):
        """Work out one table."""
        there = self.target.rows[table]
        self.after[table], self.actions[table] = dict(there), Counter()
        key = self.by_page if table == "project_details" else self.by_id
        fit = self.rows(table, lambda row: self.homeless(table, row), key)
        if table == "invitation_codes":
            fit = self.without_taken(fit, there)
        for row in fit:
            new = self.new_row(table, row)
            old = there.get(key_of(table, new))
            new, action = self.decide(table, row, new, old)
            self.actions[table][action] += 1
            created, updated = CREATED.get(table, "created_at"), None if table in AGES else "updated_at"
            self.defaulted[table] += row[created] is None or (updated is not None and row[updated] is None)
            if action in {"insert", "update"}:
                self.after[table][key_of(table, new)] = new
        self.kept[table] = fit

    def homeless(self, table, row):
        """Return the reasons where what a row refers to is not known."""
        reasons = self.strangers(row, USER[table], self.known) if table in USER else []
        if table == "project_details" and row["project_id"] is not None and is_uuid(row["project_id"]):
            reasons = [] if canonical(row["project_id"]) in self.projects else ["unknown_project"]
        return reasons

    def without_taken(self, rows, there):
        """Leave out codes that another row has; one that the target has keeps it."""
        mine = [row for row in rows if there.get(canonical(row["id"]), {}).get("code") == row["code"]]
        first = {row["code"]: row for row in self.oldest(rows, {id(row) for row in mine})}
        for row in rows:
            if first[row["code"]] is not row:
                self.reject("invitation_codes", row, "duplicate_code")
        rows = [row for row in rows if first[row["code"]] is row]
        fit = []
        for row in rows:
            if any(one["code"] == row["code"] and key != canonical(row["id"]) for key, one in there.items()):
                self.reject("invitation_codes", row, "code_taken")
            else:
                fit.append(row)
        return fit

    @staticmethod
    def oldest(rows, first):
        """Return rows so that of one code the one that counts comes last."""
        never = moment("9999-12-31 00:00:00+00")
        order = sorted(
            rows, key=lambda row: (id(row) not in first, moment(row["created_at"]) or never, canonical(row["id"]))
        )
        return reversed(order)

    def new_row(self, table, row):
        """Return a row as the target would hold it, its times apart."""
        new = {name: row.get(name) for name in TEXTS[table]}
        new |= {name: None if row.get(name) is None else int(row[name]) for name in NUMBERS[table]}
        new |= {name: None if row.get(name) is None else ("json", json.loads(row[name])) for name in JSON[table]}
        new |= {name: moment(row.get(name)) for name in TIMES[table]}
        if table != "project_details":
            new["id"] = canonical(row["id"])
            new[USER[table]] = self.known.get(canonical(row[USER[table]]))
        if table == "projects":
            new |= {name: row.get(name) == "true" for name in ("is_public", "is_featured", "is_published")}
            new["style_tags"] = new["style_tags"] or ("json", [])
        if table == "project_details":
            new |= {"project_id": canonical(row["project_id"]), "version_id": canonical(row.get("versionId"))}
        if table == "llm_logs":
            project = canonical(row["project_id"])
            new |= {"project_id": project if project in self.projects else None, "status": choice(row["status"])}
        if table == "invitation_codes":
            new["status"] = choice(row["status"]) or "available"
        return new

    def decide(self, table, row, new, old):
        """Return a row with its times, and what happens to it."""
        created = CREATED.get(table, "created_at")
        stand_in = STAND_IN.get(table, "updated_at")
        first, second = moment(row[created]), moment(row[stand_in]) if stand_in else None
        new[created] = first or second or (old or {}).get(created) or NOW
        timeless = first is None and second is None
        if table not in AGES:
            new["updated_at"] = second or first or (old or {}).get("updated_at") or NOW
        if old is None:
            return new, "insert"
        if new == {name: old[name] for name in new}:
            return old, "unchanged"
        action = {"source": "update", "keep": "kept"}.get(self.on_conflict) or self.newer(table, row, old)
        if action == "update" and timeless and table not in AGES:
            new["updated_at"] = NOW
        return new, action

    def newer(self, table, row, old):
        """Decide by age; where neither is newer, by whether somebody has edited the target's."""
        names = AGES.get(table, ("updated_at", "created_at"))
        times = [moment(row[name]) for name in names if row[name] is not None]
        if table in AGES:
            theirs, ours = max(times, default=None), max((old[name] for name in names if old[name]), default=None)
        else:
            theirs, ours = times[0] if times else None, old["updated_at"]
        if theirs and ours and theirs != ours:
            return "update" if theirs > ours else "kept"
        return "update" if self.target.last[table].get(key_of(table, old)) == old else "kept"
