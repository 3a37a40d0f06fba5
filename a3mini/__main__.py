"""``python -m a3mini``: the same as the command ``a3mini``."""

import sys

from a3mini.cli import main

sys.exit(main())
