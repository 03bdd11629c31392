"""Set before torch is imported anywhere; see lib/stage.py."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
