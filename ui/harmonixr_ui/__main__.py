"""`python -m harmonixr_ui` serves the pages."""

import sys

from harmonixr_ui.app import main

if __name__ == "__main__":
    sys.exit(main())
