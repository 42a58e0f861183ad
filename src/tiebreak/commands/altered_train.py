"""`tiebreak train` with a mistake in it: `python -m tiebreak.commands.altered_train NAME train …`.

No command of its own: controls of `tiebreak study` start it. The mistake is planted when the
training's loop is built, and `config.json` names it, so that no other training goes on with it.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

from tiebreak.studies.alterations import plant


def alter_trainings(name: str) -> None:
    """Let every training of this process have the mistake `name`."""
    from tiebreak.training import run_config, session

    make_loop, settings = session.make_loop, run_config._settings

    def make_altered(algorithm: str, framework: str, *args: Any, **options: Any) -> Any:
        plant(name, framework)
        return make_loop(algorithm, framework, *args, **options)

    session.__dict__["make_loop"] = make_altered
    run_config.__dict__["_settings"] = lambda request: {**settings(request), "altered": name}


if __name__ == "__main__":
    alter_trainings(sys.argv.pop(1))
    runpy.run_module("tiebreak", run_name="__main__")
