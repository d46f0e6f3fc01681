"""`python -m harmonixr_platform.cli` is `harmonixr`."""

import sys

from harmonixr_platform.cli import main

sys.exit(main())
