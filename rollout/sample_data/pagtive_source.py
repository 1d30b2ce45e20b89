"""What a Pagtive source holds, by the index of its rows alone.

User ``i`` by its ``place = i % 20`` (``block = i // 20``; what needs a legacy user that is not there is ordinary):

===== ==========================================================================================================
place
===== ==========================================================================================================
0     the e-mail address of legacy user ``matched(i)``, as it stands there
1     the same, upper and lower case swapped
2     the same in upper case, with blanks around
3     no e-mail address
4     username is the Feishu open id of legacy user ``block * 10 + 5``
5     username is a Feishu open id that nobody has; no e-mail address
6, 7  two users with one e-mail address; the second writes it in upper case with blanks around
8     no username, so that the e-mail address must give one
9     username is the one of legacy user ``block``
10    username is ``designer``, like that of all others here
11    neither username nor e-mail address
12    id is the one of legacy user ``block * 20 + 1`` (of a legacy database filled under seed 1)
13    the e-mail address is the empty string
===== ==========================================================================================================

Role by ``i % 13``: 4 admin, 6 super_admin, 8 verified, 10 none, else user. Status by ``i % 11``: 4 inactive (0),
6 banned (2), 8 none, else active (1). With text keys, the ids of users with ``i % 10 == 9`` are no uuids.

Project ``g`` is user ``g // projects_per_user``'s. Detail ``d`` is page ``d % pages_per_project + 1`` of project
``d // pages_per_project``. LLM log ``l`` belongs to project ``l`` and its user, but ``l % 10 == 9``: to no user;
``l % 20 == 13``: to a project that nobody knows; ``l % 20 == 3``: to none. There is one log a project, one
invitation code to two users and 12 more.

Dirty rows: with ``period = round(1 / dirty)``, row ``n`` of a table is dirty where ``n % period == period - 1``; what
is wrong with it goes through ``DIRT`` (and, with text keys, ``TEXT_DIRT``) of its table: see ``Source.dirt``.
"""
# ruff: noqa: PLR2004 - rows are told apart by their index

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rollout.sample_data import people
from rollout.sample_data.names import person
from rollout.sample_data.stream import NULL, mix, space, uuid_text

_COLUMNS = {
    "users": "id email name username status role agreed_agreement_version email_verified image last_login twitter_url"
    " created_at updated_at",
    "projects": "id user_id project_name project_description project_style global_style_code pages is_public style_tags"
    " batch_id batch_index is_featured is_published created_at updated_at",
    "project_details": "project_id page_id script styles html images mermaid_content versionId created_at updated_at",
    "llmlog": "id user_id project_id page_id provider model scenario request_timestamp request_prompts request_config"
    " response_timestamp response_content response_error usage_prompt_tokens usage_completion_tokens usage_total_tokens"
    " duration_ms status temporary_page_id",
    "invitation_codes": "id code status created_at expires_at used_at used_by_user_id",
}
COLUMNS = {table: names.split() for table, names in _COLUMNS.items()}
"""The columns of a full source, in the order of the rows' values."""

DIRT = {
    "users": ("bad_status", "bad_role", "long_username", "long_agreement", "no_created_at", "no_times"),
    "projects": ("orphan", "long_name", "no_name", "no_created_at", "no_times", "long_batch"),
    "project_details": ("orphan", "duplicate_page", "no_page", "no_created_at"),
    "llmlog": ("bad_status", "unknown_user", "no_provider", "no_prompts", "no_request_time", "long_model"),
    "invitation_codes": ("bad_status", "long_code", "duplicate_code", "no_code", "unknown_user"),
}
"""What is wrong with dirty rows.

``bad_status`` is outside its set, ``bad_role`` too; ``long_…`` does not fit the target's column; ``no_created_at`` has
an updated_at still, ``no_times`` has neither; an ``orphan``'s user or project does not exist; ``duplicate_page`` has
the number of the page before it (of the one after it on the first; with text keys written with a leading zero).
"""

TEXT_DIRT = {
    "users": (),
    "projects": ("bad_id", "nul_in_json"),
    "project_details": ("bad_page", "big_page", "bad_version"),
    "llmlog": ("bad_id", "bad_page"),
    "invitation_codes": ("bad_id",),
}
"""What more can be wrong where keys are text: no uuid, page ``abc``, one past 32 bits, json that jsonb rejects."""

_MATCHABLE = (0, 1, 2, 3, 4, 6, 8, 9)
ROLES = {4: "admin", 6: "super_admin", 8: "verified", 10: NULL}
STATUSES = {4: "0", 6: "2", 8: NULL}


def matched(index: int) -> int:
    """Return the legacy user whose e-mail address user ``index`` (of place 0, 1 or 2) has: no two have the same."""
    group, member = divmod(index // 20 * 3 + index % 20, len(_MATCHABLE))
    return group * 10 + _MATCHABLE[member]


@dataclass(frozen=True)
class Source:
    """What a source holds. ``period``: one row in so many is dirty (0: none)."""

    seed: int
    users: int
    projects_per_user: int
    pages_per_project: int
    legacy_users: int
    period: int
    text_keys: bool
    json_arrays: bool

    def dirt(self, table: str, index: int) -> str | None:
        """Tell what is wrong with a table's row: a word of ``DIRT`` or ``TEXT_DIRT``, None for a clean one."""
        if not self.period or (index + 1) % self.period:
            return None
        kinds = DIRT[table] + (TEXT_DIRT[table] if self.text_keys else ())
        return kinds[index // self.period % len(kinds)]

    @cached_property
    def projects(self) -> int:
        """How many projects, and LLM logs, there are."""
        return self.users * self.projects_per_user

    @cached_property
    def details(self) -> int:
        """How many details there are."""
        return self.projects * self.pages_per_project

    @cached_property
    def codes(self) -> int:
        """How many invitation codes there are."""
        return self.users // 2 + 12

    @cached_property
    def _spaces(self) -> dict[str, int]:
        """The spaces of the tables' ids, and of ids that nothing has."""
        return {name: space(self.seed, f"pagtive {name}") for name in (*COLUMNS, "version", "nothing")}

    def id_of(self, table: str, index: int) -> str:
        """Return an id that a table's row has where nothing is odd (``nothing``: that no row has)."""
        return uuid_text(self._spaces[table], index)

    def bits(self, table: str, index: int) -> int:
        """Return 64 bits for a row."""
        return mix(self._spaces[table] + index)

    def user_id(self, index: int) -> str:
        """Return user ``index``'s id."""
        if self.text_keys and index % 10 == 9:
            return f"cl{self.bits('users', index):016x}{index:07d}"
        double = index // 20 * 20 + 1
        if index % 20 == 12 and double < self.legacy_users:
            return uuid_text(people.Spaces.of(1).users, double)
        return self.id_of("users", index)

    def project_id(self, index: int) -> str:
        """Return project ``index``'s id."""
        return f"project-{index}" if self.dirt("projects", index) == "bad_id" else self.id_of("projects", index)

    def email(self, index: int) -> str:
        """Return user ``index``'s e-mail address, for COPY."""
        place = index % 20
        if place in (3, 5, 11):
            return NULL
        if place == 13:
            return ""
        if place <= 2 and matched(index) < self.legacy_users:
            address = people.email(matched(index)) or NULL
            return (address, address.swapcase(), f"  {address.upper()} ")[place]
        who = person(index + 500)
        if place == 7:
            who = person(index + 499)
            return f" {who.given}.{who.family}.p{index - 1}@pagtive.example ".upper()
        return f"{who.given}.{who.family}.p{index}@pagtive.example"

    def username(self, index: int) -> str:
        """Return user ``index``'s username, for COPY."""
        block, place = divmod(index, 20)
        if place in (8, 11):
            return NULL
        if place == 4 and block * 10 + 5 < self.legacy_users:
            return people.feishu_open_id(block * 10 + 5) or NULL
        if place in (4, 5):
            return f"ou_{self.bits('nothing', index):016x}{self.bits('nothing', ~index):016x}"
        if place == 9 and block < self.legacy_users:
            return people.username(block)
        return "designer" if place == 10 else f"pagtive_{person(index + 500).given}{index}"
