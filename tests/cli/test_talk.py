"""What a command says on a terminal while several threads work for it."""

from __future__ import annotations

import sys
import threading
import time

from rich.console import Console
from rich.progress import Progress

from commands.talk import Talk
from rollout.presentation import Speaker


def test_threads_share_one_bar_which_goes_before_a_question(monkeypatch):
    """Two threads that begin to tell at once: one bar, which `stop` takes away; what we write is ours all the time."""
    running, start, stop = [], Progress.start, Progress.stop

    def started(bar):
        running.append(bar)
        start(bar)

    def stopped(bar):
        running.remove(bar)
        stop(bar)

    def slow(**keywords):
        time.sleep(0.1)
        return Console(**keywords)

    monkeypatch.setattr("rich.console.Console", slow)
    monkeypatch.setattr(Progress, "start", started)
    monkeypatch.setattr(Progress, "stop", stopped)
    talk, before, together = Talk(Speaker(chinese=False)), sys.stderr, threading.Barrier(2)
    talk.is_terminal = True

    def tell():
        together.wait()
        talk.progress("check files", 1, 10, "bytes")

    threads = [threading.Thread(target=tell) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(running) == 1
    assert sys.stderr is before
    talk.stop()
    assert running == []
