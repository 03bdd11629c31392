"""The errors a user may meet, each with the exit code its stage ends with.

Raise them at the boundary with four things in the message: the name of what is wrong, what was
expected, what was received, and what to do about it.
"""

from __future__ import annotations

import errno

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""System errors of a full disk, a used-up quota and a limit on the size of a file."""


class PipelineError(ValueError):
    """Base of every error that is reported as one readable message instead of a traceback."""

    exit_code = 1


class ConfigError(PipelineError):
    """`params.yaml` or a command line says something that cannot be meant."""

    exit_code = 2


class DataError(PipelineError):
    """The catalogue cannot be used as it is."""

    exit_code = 3


class IntegrityError(PipelineError):
    """An artifact is not what its manifest says, or two artifacts do not belong together."""

    exit_code = 4


class BusyError(PipelineError):
    """Something outside is in the way: another run, a full disk. Trying again later may work."""

    exit_code = 75
