"""Ctrl-C and SIGTERM while the server works.

psycopg2 waits for the server in C, where Python's own handler does not run. A thread that is woken by the signal asks
the server to cancel the statement; the wait then ends, and ``KeyboardInterrupt`` comes as usual.
https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.extensions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Do for SIGTERM what Python does for SIGINT."""
    raise KeyboardInterrupt


@contextmanager
def cancelling(connection: psycopg2.extensions.connection) -> Iterator[None]:
    """Cancel the statement that runs on ``connection`` when Ctrl-C or SIGTERM comes (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    old_handlers = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    old_descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, connection), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_descriptor)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _watch(reader: int, connection: psycopg2.extensions.connection) -> None:
    """Wait for a signal's number (or the end of the pipe), then ask the server to cancel."""
    while data := os.read(reader, 1):
        if data[0] in _SIGNALS:
            with suppress(psycopg2.Error):
                connection.cancel()


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
