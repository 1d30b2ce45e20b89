"""The picture of the schema: everything is on it, nothing over another, and what verify found is marked."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest

from rollout import manifest, picture, plan, report

HEAD = plan.history()[-1].id


def _values(revision: str | None = HEAD, **more: Any) -> dict[str, Any]:
    """Return a run of verify as its report has it."""
    return {"command": "verify", "revision": revision, "target": {"server_version": "16.4"}, **more}


def _finding(subject: str, severity: str = "error") -> dict[str, str]:
    """Return a finding as JSON has it."""
    return {"subject": subject, "severity": severity, "problem": "<broken>"}


@pytest.mark.parametrize("revision", plan.history(), ids=lambda one: f"{one.family}-{one.id}")
def test_everything_is_on_it_and_nothing_over_another(revision: plan.Revision) -> None:
    """At every revision: each table and view, each foreign key, inside the frame, no two boxes in one place."""
    drawn = picture.of_run(_values(revision.id))
    assert drawn is not None
    known = manifest.at([one.id for one in plan.up_to(revision.id)], major=16)
    names = {key.partition(" ")[2] for key in known.objects if key.startswith(("table ", "view "))}
    assert {box.name for box in drawn.boxes} == names
    keys = [one for one in known.objects.values() if one.get("type") == "f"]
    assert {line.partition(" → ")[0] for _, _, line in drawn.lines} == {one["table"] for one in keys}
    for box in drawn.boxes:
        assert 0 <= box.x <= box.x + box.width <= drawn.width, box
        assert 0 <= box.y <= box.y + box.height <= drawn.height, box
    for one, other in combinations(drawn.boxes, 2):
        beside = one.x + one.width <= other.x or other.x + other.width <= one.x
        assert beside or one.y + one.height <= other.y or other.y + other.height <= one.y, (one, other)


@pytest.mark.parametrize(
    ("subject", "table"),
    [
        ("user_credits", "user_credits"),
        ("user_credits.credits_weekly", "user_credits"),
        ("user_credits.ck_user_credits_credits_remaining", "user_credits"),
        ("ix_case_invitations_lawyer_id", "case_invitations"),
        ("update_user_credits_updated_at on user_credits", "user_credits"),
        ("lawyer_performance_summary", "lawyer_performance_summary"),
        ("users.workspace_id", "users"),
        ("reports", None),
    ],
)
def test_what_was_found_is_marked(subject: str, table: str | None) -> None:
    """A finding marks the table of what it names, and no other; one of a file marks none."""
    drawn = picture.of_run(_values(findings=[_finding(subject), _finding(subject, "warning")]))
    assert drawn is not None
    marked = [(box.name, box.errors, box.warnings) for box in drawn.boxes if box.errors or box.warnings]
    assert marked == ([(table, 1, 1)] if table else [])


def test_the_page_holds_it() -> None:
    """Inline, with the finding escaped, and nothing to fetch; other commands and unknown revisions have none."""
    more = {"exit_code": 0, "database": "untouched", "run_id": "a", "steps": [], "seconds": 1.0}
    more |= {"started_at": "2026-01-01T00:00:00+00:00", "finished_at": "2026-01-01T00:00:01+00:00"}
    page = report.render_html(_values(findings=[_finding("user_credits") | {"hint": "x;", "area": "data"}], **more))
    svg = re.search(r'<svg class="schema".*</svg>', page, re.DOTALL)
    assert svg is not None
    assert "user_credits: &lt;broken&gt;" in svg[0]
    assert 'class="error"' in svg[0]
    assert "href" not in svg[0]
    for values in (_values(None), _values("gone"), _values() | {"command": "migrate"}):
        assert "<svg" not in report.render_html({**values, **more})
