"""Notifications to people: Feishu, DingTalk, WeCom, Slack, mail, … through Apprise, to the addresses of ROLLOUT_NOTIFY.

An address holds a token: it is never logged, shown or part of an error. What cannot be sent is a note, never an error.
https://github.com/caronc/apprise/wiki
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

from rollout.messages import in_chinese, say

if TYPE_CHECKING:
    from rollout.run import Listener
    from rollout.settings import Settings


def send(settings: Settings, listener: Listener, title: str, body: str) -> int:
    """Send a message, in the operators' language, to every address; return how many took it."""
    if not settings.notify_urls:
        return 0
    if settings.chinese:
        title, body = in_chinese(title), in_chinese(body)
    # Apprise logs addresses that it does not understand, whole; even without a handler that would go to stderr.
    logging.getLogger("apprise").disabled = True
    sent = 0
    for number, url in enumerate(settings.notify_urls, start=1):
        problem = _problem(url, str(title), str(body))
        if problem is None:
            sent += 1
        else:
            listener.note(say("address {number} of ROLLOUT_NOTIFY: {problem}", number=number, problem=problem))
    return sent


def _problem(url: str, title: str, body: str) -> str | None:
    """Send to one address; return why it could not be sent, without any part of the address."""
    try:
        with warnings.catch_warnings():
            # Some of Apprise's hundred plugins import what their Python has deprecated: not the operator's concern.
            warnings.simplefilter("ignore", DeprecationWarning)
            import apprise  # noqa: PLC0415 - half a second that only senders pay

            address = apprise.Apprise()
            if not address.add(url):
                return say("not an address that Apprise knows")
        if not address.notify(title=title, body=body):
            return say("the message was not taken")
    except Exception as error:  # noqa: BLE001 - a plugin's error must not stop a run, and its text may hold the address
        return say("the message could not be sent ({error})", error=type(error).__name__)
    return None
