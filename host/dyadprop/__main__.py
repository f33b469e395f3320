"""``python -m dyadprop`` is the command ``dyadprop``."""

import sys

from dyadprop.cli import main

if __name__ == "__main__":
    sys.exit(main())
