"""Ctrl-C, SIGTERM and a closed terminal while the server works.

psycopg2 waits for the server in C, where Python's own handler does not run. A thread that is woken by the signal asks
the server to cancel the statement; the wait then ends, and ``KeyboardInterrupt`` comes as usual.
https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
"""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_put_aside: dict[int, Any] = {}
"""The handlers that ``heeding`` has replaced; empty outside of it."""

_held: list[bool] = []
"""Empty outside of ``held``; True is in it where a signal came meanwhile."""

_ASK_AGAIN_SECONDS = 0.5


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Do what Python does for SIGINT, once: people press Ctrl-C twice, and what cleans up must come to its end."""
    for number in _put_aside:
        signal.signal(number, signal.SIG_IGN)
    if _held:
        _held.append(True)
        return
    raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Let a signal that ``heeding`` waits for come at the end of the block (in the main thread only).

    What the block begins has its name then, and can be ended: a program, for one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _held.append(False)
    try:
        yield
    finally:
        came = any(_held)
        _held.clear()
        if came:
            raise KeyboardInterrupt


@contextmanager
def heeding() -> Iterator[None]:
    """Make one ``KeyboardInterrupt`` of all signals that ask us to end, while the block runs (in the main thread only).

    A signal that is ignored already (``nohup``) stays so.
    """
    if _put_aside or threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    _put_aside.update({number: one for number, one in handlers.items() if one not in {None, signal.SIG_IGN}})
    for number in _put_aside:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in _put_aside.items():
            signal.signal(number, handler)
        _put_aside.clear()


def finish_from_here() -> None:
    """Let no signal in until the outermost ``heeding`` ends: what is committed is told as committed."""
    _handle(signal.SIG_IGN)


def heed_again() -> None:
    """Let signals in again, for the next part of a command that has several."""
    _handle(_interrupt)


def _handle(handler: Any) -> None:
    """Change what is done about all the signals that ``heeding`` has put aside (in the main thread only)."""
    if threading.current_thread() is threading.main_thread():
        for number in _put_aside:
            signal.signal(number, handler)


@contextmanager
def cancelling(connection: psycopg2.extensions.connection) -> Iterator[None]:
    """Cancel the statement that runs on ``connection`` when such a signal comes (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with heeding():
        old_descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        watcher = threading.Thread(target=_watch, args=(reader, connection), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_descriptor)
            os.close(writer)
            watcher.join()
            os.close(reader)


def _watch(reader: int, connection: psycopg2.extensions.connection) -> None:
    """Wait for a signal's number (or the end of the pipe), then ask the server to cancel, until the block has ended.

    Once is not enough: the statement may not have reached the server yet.
    """
    while data := os.read(reader, 1):
        if data[0] in _SIGNALS:
            break
    else:
        return
    while True:
        with suppress(psycopg2.Error):
            connection.cancel()
        if select.select([reader], [], [], _ASK_AGAIN_SECONDS)[0] and not os.read(reader, 1):
            return


@contextmanager
def finishing() -> Iterator[None]:
    """Let no signal in: from COMMIT on, a run finishes instead of stopping half-way through its books."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
