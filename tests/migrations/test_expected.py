"""``rollout/expected`` is what a server says of each revision: on the session's server, whichever its major is."""

from __future__ import annotations

import json

import pytest

from rollout import expected_manifests, manifest, plan


@pytest.fixture(scope="module")
def files(make_template):
    """Return what this server says: each file's name and content."""
    return expected_manifests.generate(make_template())


def test_there_is_a_file_for_each_revision_and_no_other(files):
    """No revision without its file, no file of a revision that is gone."""
    there = {path.name for path in manifest.EXPECTED.glob("*.json")}
    assert there == {f"{revision.id}.json" for revision in plan.history()} | {"seeds.json"}
    assert there | {"_major"} == files.keys()


@pytest.mark.parametrize("revision", [revision.id for revision in plan.history()])
def test_the_file_says_what_the_server_says(files, revision):
    """Added, changed and removed, letter by letter; where this major words it differently, its variant does."""
    major = str(files["_major"]["major"])
    stored = json.loads((manifest.EXPECTED / f"{revision}.json").read_text(encoding="utf-8"))
    variant = stored.get("variants", {}).get(major, {})
    told = files[f"{revision}.json"]
    hint = "make expected" if major == "18" else "DATABASE_URL=… python -m rollout.expected_manifests --variant"
    for part in ("added", "changed"):
        assert told[part] == {**stored[part], **variant.get(part, {})}, f"not up to date: {hint}"
    assert told["removed"] == stored["removed"], f"not up to date: {hint}"
    assert told["family"] == stored["family"]


def test_the_seeds_are_what_the_server_has(files):
    """The seed rows that verify compares with."""
    stored = json.loads((manifest.EXPECTED / "seeds.json").read_text(encoding="utf-8"))
    assert files["seeds.json"] == stored
    assert {table: len(seeds["rows"]) for table, seeds in stored.items()} == {
        "lawyer_levels": 10, "enterprise_service_packages": 4, "demo_accounts": 2,
    }  # fmt: skip
