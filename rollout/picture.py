"""The schema as a picture: tables as boxes by family, foreign keys as lines; what verify found something in is marked.

Nearly every key leads to ``users`` or ``cases``. Those two are bars from top to bottom, so that each such line is short
and level; the few others run along the gutter beside their column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rollout import manifest, plan
from rollout.findings import ERROR

if TYPE_CHECKING:
    from rollout.manifest import Manifest

ROW, GAP, HEAD, BOX, BAR, GUTTER = 30, 6, 30, 244, 44, 64
LEFT = GUTTER
USERS = LEFT + BOX + GUTTER
MIDDLE = USERS + BAR + GUTTER
CASES = MIDDLE + BOX + GUTTER
WIDTH = CASES + BAR + GUTTER // 4
BARS = {"users": USERS, "cases": CASES}

_FIRST = ("tenants", "clients")
"""What cases refer to beside users: level with the top of the bars, where nothing else stands."""
_LEFT_FAMILIES = {"auth", "levels", "memberships", "enterprise", "performance"}


@dataclass
class Box:
    """One table or view: where it stands, its family, and how many errors and warnings are about it."""

    name: str
    family: str
    hue: int
    x: int
    y: int
    width: int = BOX
    height: int = ROW - GAP
    is_view: bool = False
    errors: int = 0
    warnings: int = 0
    about: list[str] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """The height of its centre."""
        return self.y + self.height / 2


@dataclass
class Picture:
    """Boxes, lines (a path, the family's hue, what refers to what) and the headings of families (x, y, name, hue)."""

    height: int
    boxes: list[Box]
    lines: list[tuple[str, int, str]]
    heads: list[tuple[int, int, str, int]]
    width: int = WIDTH


def of_run(values: dict[str, Any]) -> Picture | None:
    """Return the picture for a verification (``report.values_of``); None where its revision is not known here."""
    revision = values.get("revision")
    if revision not in {one.id for one in plan.history()}:
        return None
    version = str((values.get("target") or {}).get("server_version", "")).partition(".")[0]
    known = manifest.at([one.id for one in plan.up_to(revision)], major=int(version) if version.isdigit() else 0)
    boxes, heads = _placed(known)
    _mark(known, boxes, values.get("findings") or [])
    height = max(box.y + box.height for box in boxes.values()) + GAP
    for name in BARS:
        if name in boxes:
            boxes[name].height = height - GAP
    return Picture(height, list(boxes.values()), list(_lines(known, boxes)), heads)


def _placed(known: Manifest) -> tuple[dict[str, Box], list[tuple[int, int, str, int]]]:
    """Place every table and view: two columns of families, a bar beside each."""
    families = plan.family_of()
    order, about_cases = list(plan.families()), _about_cases(known)
    boxes, heads, last = {}, list[tuple[int, int, str, int]](), {LEFT: "", MIDDLE: ""}
    # cases' own lines to the first two boxes cross the middle column above its first heading
    end = {LEFT: HEAD, MIDDLE: HEAD + len(_FIRST) * ROW + GAP}
    for key in sorted(_tables(known), key=lambda one: _rank(one, order.index(families[known.made_by[one]]))):
        kind, _, name = key.partition(" ")
        family = families[known.made_by[key]]
        hue = round(order.index(family) * 360 / len(order) + 215) % 360
        if name in BARS:
            boxes[name] = Box(name, family, hue, BARS[name], GAP, BAR)
            continue
        x = LEFT if family in _LEFT_FAMILIES or (family == order[0] and name not in about_cases) else MIDDLE
        if last[x] != family:
            end[x] += HEAD * bool(last[x])
            heads.append((x, end[x] - GAP - 2, family, hue))
            last[x] = family
        boxes[name] = Box(name, family, hue, x, end[x], is_view=kind == "view")
        end[x] += ROW
    return boxes, heads


def _tables(known: Manifest) -> list[str]:
    """Return the keys of all tables and views."""
    return [key for key in known.objects if key.startswith(("table ", "view "))]


def _rank(key: str, family: int) -> tuple[int, int, str]:
    """Sort by family; what cases refer to comes first."""
    name = key.partition(" ")[2]
    return family, _FIRST.index(name) if name in _FIRST else len(_FIRST), name


def _keys(known: Manifest) -> list[tuple[str, str]]:
    """Return (table, referred table) of all foreign keys, each pair once."""
    pairs = (
        (str(one["table"]), str(one["definition"]).partition(" REFERENCES ")[2].partition("(")[0])
        for one in known.objects.values()
        if one.get("type") == "f"
    )
    return list(dict.fromkeys(pairs))


def _about_cases(known: Manifest) -> set[str]:
    """Return the tables that refer to cases, or to one that does."""
    keys = [(source, target) for source, target in _keys(known) if source != target]
    direct = {source for source, target in keys if target == "cases"}
    return direct | {source for source, target in keys if target in direct - BARS.keys()}


def _lines(known: Manifest, boxes: dict[str, Box]) -> list[tuple[str, int, str]]:
    """Return the lines of all foreign keys between what is drawn."""
    return [
        (_path(boxes[source], boxes[target]), boxes[source].hue, f"{source} → {target}")
        for source, target in _keys(known)
        if source != target and source in boxes and target in boxes
    ]


def _path(source: Box, target: Box) -> str:
    """Return a line: level to or from a bar, along the gutter within a column, else a curve across."""
    if target.name in BARS or source.name in BARS:
        y = source.middle if target.name in BARS and source.name not in BARS else target.middle
        if source.name in BARS and target.name in BARS:
            y = GAP + ROW / 2
        start, end = (source.x + source.width, target.x) if source.x < target.x else (source.x, target.x + target.width)
        return f"M{start} {y}H{end}"
    if source.x == target.x:
        edge, out = (LEFT, -1) if source.x == LEFT else (MIDDLE + BOX, 1)
        bend = edge + out * min(GUTTER - GAP, 14 + abs(source.middle - target.middle) / 4)
        return f"M{edge} {source.middle}C{bend} {source.middle} {bend} {target.middle} {edge} {target.middle}"
    start, end = (source.x, target.x + target.width) if source.x > target.x else (source.x + source.width, target.x)
    half = (start + end) / 2
    return f"M{start} {source.middle}C{half} {source.middle} {half} {target.middle} {end} {target.middle}"


def _mark(known: Manifest, boxes: dict[str, Box], findings: list[dict[str, Any]]) -> None:
    """Count what was found, at the table that it is about; what is about none (files, settings) is in the list only."""
    tables = {key.partition(" ")[2]: str(one["table"]) for key, one in known.objects.items() if "table" in one}
    for finding in findings:
        for subject in str(finding.get("subject", "")).split(", "):
            name = tables.get(subject) or subject.rpartition(" on ")[2].partition(".")[0]
            if name in boxes:
                box = boxes[name]
                box.errors += finding.get("severity") == ERROR
                box.warnings += finding.get("severity") != ERROR
                box.about.append(f"{subject}: {finding.get('problem', '')}")
