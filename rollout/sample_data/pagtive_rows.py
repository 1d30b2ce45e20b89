"""The rows of a Pagtive source, in the order of ``pagtive_source.COLUMNS``, for COPY."""
# ruff: noqa: PLR2004 - rows are told apart by their index

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from rollout.sample_data.names import firm, person
from rollout.sample_data.pagtive_source import ROLES, STATUSES, Source
from rollout.sample_data.stream import NULL, escaped, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollout.sample_data.pages import Pages

Row = tuple[str, ...]

_ZONE = "+08"
_TAGS = ("极简", "dark mode", 'the "new" {style}', "retro\\80s")
_NUL_IN_JSON = escaped(r'[{"id": 1, "title": "\u0000"}]')


def rows_of(source: Source, pages: Pages) -> dict[str, tuple[Iterator[Row], int]]:
    """Return every table of a full source: its rows and how many."""
    return {
        "users": (_user_rows(source), source.users),
        "projects": (_project_rows(source), source.projects),
        "project_details": (_detail_rows(source, pages), source.details),
        "llmlog": (_log_rows(source), source.projects),
        "invitation_codes": (_code_rows(source), source.codes),
    }


def _times(bits: int, later: int, dirt: str | None) -> tuple[str, str]:
    """Return created_at and updated_at."""
    if dirt == "no_times":
        return NULL, NULL
    return NULL if dirt == "no_created_at" else moment(bits, later, _ZONE), moment(bits, later + bits % 60, _ZONE)


def _user_rows(source: Source) -> Iterator[Row]:
    """Yield the users."""
    for index in range(source.users):
        bits, dirt = source.bits("users", index), source.dirt("users", index)
        verified = ("t" if index % 2 else "f") if source.text_keys else moment(bits, 1, _ZONE)
        yield (
            source.user_id(index),
            source.email(index),
            NULL if index % 17 == 16 else person(index + 500).full_name,
            "u" * 300 + str(index) if dirt == "long_username" else source.username(index),
            "7" if dirt == "bad_status" else STATUSES.get(index % 11, "1"),
            "root" if dirt == "bad_role" else ROLES.get(index % 13, "user"),
            "version-" * 4 if dirt == "long_agreement" else ("v1.2", "2024-03", NULL)[index % 3],
            NULL if index % 3 == 0 else verified,
            f"https://img.example/{bits:x}.png" if index % 4 else NULL,
            moment(bits, 90, _ZONE) if index % 5 else NULL,
            f"https://twitter.example/u{index}" if index % 15 == 0 else NULL,
            *_times(bits, 0, dirt),
        )


@cache
def _style_tags(count: int, arrays: bool) -> str:
    """Return the first tags: a list in json, or PostgreSQL's array of jsons."""
    if not arrays:
        return escaped(json.dumps(_TAGS[:count], ensure_ascii=False))
    quoted = (json.dumps(tag, ensure_ascii=False).replace("\\", "\\\\").replace('"', '\\"') for tag in _TAGS[:count])
    return escaped("{" + ",".join(f'"{tag}"' for tag in quoted) + "}")


def _project_rows(source: Source) -> Iterator[Row]:
    """Yield the projects."""
    listed = ", ".join(f'{{"id": {page + 1}, "title": "第 {page + 1} 页"}}' for page in range(source.pages_per_project))
    for index in range(source.projects):
        bits, dirt = source.bits("projects", index), source.dirt("projects", index)
        orphan = dirt == "orphan"
        name = {"long_name": "项目" * 140, "no_name": NULL}.get(dirt or "", f"{firm(bits)}官网 #{index}")
        batch = f"batch-{index // 9}" if index % 3 == 0 else NULL
        yield (
            source.project_id(index),
            source.id_of("nothing", index) if orphan else source.user_id(index // source.projects_per_user),
            name,
            f"Landing page {index}\\n第二行 {bits % 1000}" if index % 2 else NULL,
            ("modern", "古风", NULL)[index % 3],
            f":root {{ --main: #{bits % 0xFFFFFF:06x}; }}" if index % 4 == 0 else NULL,
            _NUL_IN_JSON if dirt == "nul_in_json" else f"[{listed}]",
            "t" if index % 6 == 0 else "f",
            _style_tags(index % (len(_TAGS) + 1), source.json_arrays),
            "b" * 40 if dirt == "long_batch" else batch,
            str(index % 9) if index % 3 == 0 else NULL,
            "t" if index % 50 == 0 else "f",
            "t" if index % 5 == 0 else "f",
            *_times(bits, 60, dirt),
        )


def _page_number(source: Source, page: int, dirt: str | None) -> str:
    """Return a page's number as the source writes it."""
    if dirt == "duplicate_page":
        other = page - 1 if page > 1 else min(2, source.pages_per_project)
        return f"0{other}" if source.text_keys else str(other)
    return {"no_page": NULL, "bad_page": "abc", "big_page": "99999999999"}.get(dirt or "", str(page))


def _detail_rows(source: Source, pages: Pages) -> Iterator[Row]:
    """Yield the pages of the projects."""
    for index in range(source.details):
        bits, dirt = source.bits("project_details", index), source.dirt("project_details", index)
        project, page = divmod(index, source.pages_per_project)
        version = source.id_of("version", index) if index % 4 else NULL
        yield (
            source.id_of("nothing", index) if dirt == "orphan" else source.project_id(project),
            _page_number(source, page + 1, dirt),
            *pages.page(index),
            f'["/a/{bits:x}.webp", "/a/{bits >> 8:x}.webp"]' if index % 3 == 0 else NULL,
            f"graph TD; A{index} --> B;" if index % 15 == 0 else NULL,
            "latest" if dirt == "bad_version" else version,
            *_times(bits, 120 + min(page, 300), dirt),
        )


def _log_rows(source: Source) -> Iterator[Row]:
    """Yield the calls of language models."""
    outcomes = ("success", "success", "failed", "pending", "processing")
    for index in range(source.projects):
        bits, dirt = source.bits("llmlog", index), source.dirt("llmlog", index)
        outcome = outcomes[index % len(outcomes)]
        user = NULL if index % 10 == 9 else source.user_id(index // source.projects_per_user)
        project = {13: source.id_of("nothing", index), 3: NULL}.get(index % 20, source.project_id(index))
        when, asked, answered = moment(bits, 130, _ZONE), bits % 3000, bits % 7000
        prompts = f'[{{"role": "user", "content": "为{firm(bits)}生成页面\\\\n{bits:x} \\\\"简洁\\\\""}}]'
        yield (
            f"log-{index}" if dirt == "bad_id" else source.id_of("llmlog", index),
            source.id_of("nothing", index) if dirt == "unknown_user" else user,
            project,
            "abc" if dirt == "bad_page" else str(index % 5 + 1) if index % 6 else NULL,
            NULL if dirt == "no_provider" else ("openai", "deepseek", "qwen")[index % 3],
            "m" * 120 if dirt == "long_model" else f"model-{index % 7}",
            ("page", "style", NULL)[index % 3],
            NULL if dirt == "no_request_time" else when,
            NULL if dirt == "no_prompts" else prompts,
            f'{{"temperature": 0.{bits % 10}, "max_tokens": {bits % 4096}}}',
            when if outcome in ("success", "failed") else NULL,
            f"<div>{firm(bits >> 8)}</div>" if outcome == "success" else NULL,
            "timeout" if outcome == "failed" else NULL,
            str(asked),
            str(answered),
            str(asked + answered),
            str(bits % 60_000),
            "done" if dirt == "bad_status" else outcome,
            f"tmp-{bits:x}" if index % 8 == 0 else NULL,
        )


def _code_rows(source: Source) -> Iterator[Row]:
    """Yield the invitation codes; every third is used, by a user who is there."""
    for index in range(source.codes):
        bits, dirt = source.bits("invitation_codes", index), source.dirt("invitation_codes", index)
        code = f"PAG-{bits:016X}"
        if dirt == "duplicate_code":
            code = f"PAG-{source.bits('invitation_codes', max(index - 1, 0)):016X}"
        used = index % 3 == 1 and source.users > 0
        by = source.user_id(index % source.users) if used else NULL
        yield (
            f"code-{index}" if dirt == "bad_id" else source.id_of("invitation_codes", index),
            {"long_code": code * 3, "no_code": NULL}.get(dirt or "", code),
            "revoked" if dirt == "bad_status" else ("available", "used" if used else "available", "expired")[index % 3],
            moment(bits, 0, _ZONE),
            moment(bits, 365, _ZONE) if index % 2 else NULL,
            moment(bits, 20, _ZONE) if used else NULL,
            source.id_of("nothing", index) if dirt == "unknown_user" else by,
        )
