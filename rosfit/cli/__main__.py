"""`python -m rosfit.cli`, the same as `rosfit`."""

import sys

from rosfit.cli import main

sys.exit(main())
