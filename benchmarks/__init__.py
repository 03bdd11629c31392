"""Measurements; each module is a command."""

import lib  # noqa: F401  # before numpy: it says how long numpy's idle threads spin
