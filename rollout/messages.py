"""Texts that operators read, in English and Chinese.

A message keeps its template and its values apart, so that the same message can be shown in either language:
``say("table {table} is missing", table="users")`` reads as the English text; ``in_chinese`` looks the template up in
``rollout/chinese.json``. A test finds every template in the code without a Chinese text, or with other placeholders.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

CHINESE = Path(__file__).with_name("chinese.json")
"""The Chinese texts of messages, by their English template."""


class Message(str):
    """An English text that remembers its template and values, so that it can be shown in Chinese too."""

    __slots__ = ("template", "values")
    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, values: dict[str, Any] | None = None) -> Self:
        """Format ``template`` with ``values``; both are kept on the message."""
        message = super().__new__(cls, template.format(**values) if values else template)
        message.template = template
        message.values = values or {}
        return message


def say(template: str, **values: object) -> Message:
    """Return the message of ``template`` (``str.format`` placeholders) filled with ``values``."""
    return Message(template, values)


@cache
def chinese_texts() -> dict[str, str]:
    """Return the Chinese texts by their English template; read once, and only where somebody reads Chinese."""
    texts: dict[str, str] = json.loads(CHINESE.read_text(encoding="utf-8"))
    return texts


def in_chinese(text: str) -> str:
    """Return the Chinese text of a message; a plain string comes back as it is."""
    if not isinstance(text, Message):
        return text
    template = chinese_texts().get(text.template)
    if template is None:
        return str(text)
    values = {name: in_chinese(value) if isinstance(value, str) else value for name, value in text.values.items()}
    return template.format(**values) if values else template
