"""What is said of a row in quarantine, in the operator's language: it is kept in English, reasons joined by ``; ``."""

from __future__ import annotations

import re

from rollout.messages import Message, say

_ANY = "…"

# What ``rules``, ``merge`` and ``identity`` say.
_MESSAGES = (
    say("{name} is missing", name=_ANY),
    say("{name} is not an integer", name=_ANY),
    say("{name} is out of the range of an integer", name=_ANY),
    say("{name} is not a uuid", name=_ANY),
    say("{name} is neither true nor false", name=_ANY),
    say("{name} is not a time that fits", name=_ANY),
    say("{name} is not json that the target can hold", name=_ANY),
    say("{name} is not UTF-8", name=_ANY),
    say("{name} is longer than {length} characters", name=_ANY, length=_ANY),
    say("{name} is none of {values}", name=_ANY, values=_ANY),
    say("{name} is no known user", name=_ANY),
    say("{name} is no known project", name=_ANY),
    say("another row has the same {name}", name=_ANY),
    say("another page of the project has the same number"),
    say("another row of the target has the same {name}", name=_ANY),
    say("several users of the target have this e-mail address"),
    say("the file of decisions says to skip this user"),
    say("the decided user's address or Feishu id is somebody's account"),
    say("other source users with this e-mail address or Feishu id are several users of the target"),
    say("the e-mail address is another user's account"),
)


def told(message: str) -> list[str]:
    """Return a quarantined row's message, reason by reason, as texts that can be shown in the operator's language."""
    return [_told(part) for part in message.split("; ")]


def _told(part: str) -> str:
    """Find the template that a text was made from; one that no template fits stays as it is."""
    for message in _MESSAGES:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(message.template))
        if found := re.fullmatch(pattern, part):
            return Message(message.template, found.groupdict())
    return part
