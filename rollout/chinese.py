"""The Chinese texts of messages, by their English template."""

from __future__ import annotations

TEXTS: dict[str, str] = {}
