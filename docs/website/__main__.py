"""Build the site: `python -m website` in docs/, or `make docs`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from website.assemble import assemble
from website.check import problems
from website.directives import ROOT

TARGET = ROOT / "build" / "docs"
SITE = TARGET / "site"


def main() -> int:
    """Build into build/docs/site; return 1 if rendering fails or a link is dead."""
    assemble(TARGET)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=TARGET, check=False)
    if built.returncode:
        return 1
    found = list(problems(SITE))
    print("\n".join(found) or f"the site: {Path(SITE, 'index.html')}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
