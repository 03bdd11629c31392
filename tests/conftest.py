"""Set before torch is imported anywhere; see lib/stage.py."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "10000")
