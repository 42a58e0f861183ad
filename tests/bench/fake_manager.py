"""Stands for `tiebreak` on a host, in tests: the real manager, whose workers measure a fake."""

from __future__ import annotations

import functools
import sys

from tiebreak import cli
from tiebreak.bench.manager import manager

if __name__ == "__main__":
    subject = "bench.fakes:make_subject"
    manager.run_suite = functools.partial(manager.run_suite, subject=subject)
    sys.exit(cli.main())
