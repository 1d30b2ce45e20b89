"""What a Pagtive database holds and where each value goes: the tables and columns of the import, in its order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a value has to be in the target."""

    TEXT = "text"
    KEY = "key"
    UUID = "uuid"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TIME = "time"
    JSON = "json"
    SET = "set"


@dataclass(frozen=True)
class Field:
    """One column of a source table and what its value has to be; ``length`` in characters.

    ``required``: NULL does not fit. ``optional``: some installations do not have the column. ``values``: the only ones
    there are. ``default``: SQL of the value that NULL becomes.
    """

    name: str
    kind: Kind = Kind.TEXT
    length: int | None = None
    required: bool = False
    optional: bool = False
    values: tuple[str, ...] = ()
    default: str | None = None
    target: str = ""

    @property
    def column(self) -> str:
        """The target's column."""
        return self.target or self.name

    @property
    def is_large(self) -> bool:
        """Tell whether values may be large: they are moved and hashed on their own."""
        return self.kind is Kind.JSON or (self.kind is Kind.TEXT and self.length is None)


@dataclass(frozen=True)
class Table:
    """One table of the import: ``name`` in reports, ``source`` and ``target`` in the databases.

    ``created`` and ``updated`` name its times, of which one takes the other's place where it is missing (``stand_in``
    where there is no ``updated``); ``ages`` the columns that tell how new a row is. ``user`` and ``project`` name the
    fields that refer to those; ``unique`` one whose value may be there only once. ``divisible``: what becomes of a row
    depends on no other row but those of its key, so that a part of the table can be merged on its own.
    """

    name: str
    source: str
    target: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] = ("id",)
    optional: bool = False
    created: str = "created_at"
    updated: str | None = "updated_at"
    stand_in: str | None = "updated_at"
    ages: tuple[str, ...] = ("updated_at",)
    user: str | None = None
    project: str | None = None
    unique: str | None = None
    divisible: bool = False

    def field(self, name: str) -> Field:
        """Return the field of a source column."""
        return next(field for field in self.fields if field.name == name)


_CREATED = Field("created_at", Kind.TIME)
_UPDATED = Field("updated_at", Kind.TIME)

USERS = Table(
    "users",
    "users",
    "users",
    (
        Field("id", Kind.KEY, length=64, required=True),
        Field("email", length=255),
        Field("name", length=255),
        Field("username", length=255),
        Field("status", Kind.SET, values=("0", "1", "2")),
        Field("role", Kind.SET, values=("user", "admin", "super_admin", "verified")),
        Field("agreed_agreement_version", length=20),
        _CREATED,
        _UPDATED,
        Field("email_verified", Kind.SET, optional=True),
        Field("image", length=500, optional=True),
        Field("last_login", Kind.TIME, optional=True),
        Field("twitter_url", length=500, optional=True),
    ),
)

PROJECTS = Table(
    "projects",
    "projects",
    "pagtive_projects",
    (
        Field("id", Kind.UUID, required=True),
        Field("user_id", Kind.KEY, required=True),
        Field("project_name", length=255, required=True),
        Field("project_description"),
        Field("project_style"),
        Field("global_style_code"),
        Field("pages", Kind.JSON),
        Field("is_public", Kind.BOOLEAN, default="false"),
        Field("style_tags", Kind.JSON, default="'[]'::jsonb"),
        Field("batch_id", length=36),
        Field("batch_index", Kind.INTEGER),
        Field("is_featured", Kind.BOOLEAN, default="false"),
        Field("is_published", Kind.BOOLEAN, default="false"),
        _CREATED,
        _UPDATED,
    ),
    user="user_id",
    divisible=True,
)

DETAILS = Table(
    "project_details",
    "project_details",
    "pagtive_project_details",
    (
        Field("project_id", Kind.UUID, required=True),
        Field("page_id", Kind.INTEGER, required=True),
        Field("script"),
        Field("styles"),
        Field("html"),
        Field("images", Kind.JSON),
        Field("mermaid_content"),
        Field("versionId", Kind.UUID, target="version_id"),
        _CREATED,
        _UPDATED,
    ),
    key=("project_id", "page_id"),
    project="project_id",
    divisible=True,
)

LOGS = Table(
    "llm_logs",
    "llmlog",
    "pagtive_llm_logs",
    (
        Field("id", Kind.UUID, required=True),
        Field("user_id", Kind.KEY),
        Field("project_id", Kind.KEY),
        Field("page_id", Kind.INTEGER),
        Field("provider", length=50, required=True),
        Field("model", length=100, required=True),
        Field("scenario", length=100),
        Field("request_timestamp", Kind.TIME),
        Field("request_prompts", Kind.JSON, required=True),
        Field("request_config", Kind.JSON, required=True),
        Field("response_timestamp", Kind.TIME),
        Field("response_content"),
        Field("response_error"),
        Field("usage_prompt_tokens", Kind.INTEGER),
        Field("usage_completion_tokens", Kind.INTEGER),
        Field("usage_total_tokens", Kind.INTEGER),
        Field("duration_ms", Kind.INTEGER),
        Field("status", Kind.SET, required=True, values=("pending", "processing", "success", "failed")),
        Field("temporary_page_id", length=100),
    ),
    optional=True,
    created="request_timestamp",
    updated=None,
    stand_in="response_timestamp",
    ages=("request_timestamp", "response_timestamp"),
    user="user_id",
    project="project_id",
    divisible=True,
)

CODES = Table(
    "invitation_codes",
    "invitation_codes",
    "pagtive_invitation_codes",
    (
        Field("id", Kind.UUID, required=True),
        Field("code", length=50, required=True),
        Field("status", Kind.SET, values=("available", "used", "expired"), default="'available'"),
        _CREATED,
        Field("expires_at", Kind.TIME),
        Field("used_at", Kind.TIME),
        Field("used_by_user_id", Kind.KEY),
    ),
    optional=True,
    updated=None,
    stand_in=None,
    ages=("created_at", "used_at"),
    user="used_by_user_id",
    unique="code",
)

TABLES = (USERS, PROJECTS, LOGS, CODES, DETAILS)
"""In the order of the merge: what belongs to nothing first, and the largest last, whose parts come beside it."""
