"""End a command by SIGTERM or SIGHUP as Ctrl-C does; for the command line only."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command as Ctrl-C does: of a scheduler, and of a terminal that is closed."""
AGAIN_S = 0.1
"""Seconds after which an interruption that was lost is raised again: on a machine under load, what
has lost it has ended by then."""
CLEANUP_S = 10.0
"""Seconds after an interruption in which further signals do not cut the cleaning up short."""


class EndingSignals:
    """Handlers of signals while a command runs.

    SIGTERM and SIGHUP are passed on to whatever handles SIGINT at that moment, so that everything
    that is prepared for Ctrl-C is prepared for them. A signal that is ignored stays ignored, as
    `nohup` wants it.
    """

    def __init__(self) -> None:
        self._first = 0
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]
        self._interrupted_at = -CLEANUP_S

    @property
    def interrupted(self) -> bool:
        """Return True if a signal has ended the command."""
        return bool(self._first)

    @property
    def status(self) -> int:
        """Exit status of an interrupted command: 128 + the number of the first signal."""
        return 128 + (self._first or signal.SIGINT)

    def install(self) -> None:
        """Take over the signals that have Python's or the system's default handler."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._pass_on)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, unless one was raised a moment ago and is being handled."""
        self._first = self._first or number
        if time.monotonic() - self._interrupted_at >= CLEANUP_S:
            self._interrupted_at = time.monotonic()
            raise KeyboardInterrupt

    def report_unraisable(self, unraisable: Any) -> None:
        """Handle an exception that Python drops, as `sys.unraisablehook` does.

        A KeyboardInterrupt may be raised inside a weak reference's callback or a `__del__`, where
        it ends nothing but a line on the screen. It is raised again, a moment later and elsewhere.
        """
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._interrupted_at = -CLEANUP_S
            # Not `threading.Timer`: it waits for its thread to begin, and would lose it again.
            _thread.start_new_thread(_interrupt_later, ())
        else:
            sys.__unraisablehook__(unraisable)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Call the handler of Ctrl-C; without a terminal to write to, write to nothing."""
        self._first = self._first or number
        for stream in self._terminals:
            if not os.isatty(stream):  # it was closed, and every write to it would fail
                os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stream)
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and handler != self._interrupt:
            handler(signal.SIGINT, frame)
        else:
            self._interrupt(number, frame)


def _interrupt_later() -> None:
    time.sleep(AGAIN_S)
    os.kill(os.getpid(), signal.SIGINT)


@contextlib.contextmanager
def ending_signals(process_ends: bool = False) -> Iterator[EndingSignals]:
    """Handle signals as EndingSignals does, until the block ends; in the main thread only.

    `process_ends`: the process ends after the block. Ctrl-C is ignored from then on, and the others
    if a signal has ended the command: they would break into Python's own end, with a traceback.
    """
    signals = EndingSignals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    hook, sys.unraisablehook = sys.unraisablehook, signals.report_unraisable
    signals.install()
    try:
        yield signals
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            if handler is not None:
                ignored = process_ends and (signals.interrupted or number == signal.SIGINT)
                signal.signal(number, signal.SIG_IGN if ignored else handler)
