"""`python -m tiebreak`: the command line."""

import sys

from tiebreak.cli import main

if __name__ == "__main__":
    sys.exit(main())
