"""Run a training script by turns: it goes on for so many steps, and waits.

A script of somebody else's has a loop of its own. It runs here in a thread, unchanged, and calls
`pause` once in an iteration, through something that it calls anyway: a logger, a callback. For a
script of one's own a subclass is enough to be a contestant; docs/adding.md has an example.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from typing import Any


def stand_in(name: str, **content: Any) -> None:
    """Put a module of this content in the place of one that is not installed, or does not fit."""
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


class Ended(SystemExit):
    """Raised inside the script to end it."""


class Script:
    """A training in a thread, which runs only while `train` waits for it."""

    def __init__(self, main: Callable[[], object]):
        """Prepare `main`, which trains until `pause` raises; it begins with the first `train`."""
        self.steps = 0
        """Environment steps so far, as the script says."""
        self._target = 0
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._has_ended = self._ends = False
        self._main = main
        self._thread = threading.Thread(target=self._run, daemon=True)

    def train(self, env_steps: int) -> None:
        """Let the script go on for at least so many steps, to the next `pause`."""
        self._target = self.steps + env_steps
        if self._has_ended:
            raise RuntimeError("the script has ended already: let it train for longer")
        if self._thread.ident is None:
            self._thread.start()
        self._go.release()
        self._paused.acquire()
        if self._error is not None:
            raise RuntimeError(f"the script failed: {self._error}") from self._error

    def pause(self, steps: int) -> None:
        """Wait, in the script, for the next turn if the steps of this one are taken.

        steps: Environment steps since the script began.
        """
        self.steps = steps
        if steps < self._target:
            return
        self._paused.release()
        self._go.acquire()
        if self._ends:
            raise Ended

    def counts(self) -> dict[str, int]:
        """Return the steps so far."""
        return {"env_steps": self.steps}

    def close(self) -> None:
        """End the script where it waits."""
        self._ends = True
        self._go.release()
        if self._thread.ident is not None:
            self._thread.join(timeout=10.0)

    def _run(self) -> None:
        """Run the script in its thread."""
        self._go.acquire()
        try:
            if not self._ends:
                self._main()
        except Ended:
            pass
        except BaseException as error:  # it is raised again where the turn was given
            self._error = error
        self._has_ended = True
        self._paused.release()
