"""The errors an operator can cause or meet. Each message says what is wrong and what to do, in one line.

LoadgenError
├── PlanError      an option, or a combination of options, that cannot be run (exit 2)
├── ClusterError   a server that cannot be started, reached or used (exit 2)
│   ├── SessionRefused   a session that is not what the run needs it to be
│   └── LockLost         the run's lock on its server is another run's, or gone
└── StoreError     a run directory or history that cannot be written or read

Database errors are not exceptions here: an engine turns them into outcomes (engines/engine.py).
"""


class LoadgenError(Exception):
    """An error for the operator: shown as one line, without a traceback."""


class PlanError(LoadgenError):
    """An option that is wrong by itself or beside the others."""


class ClusterError(LoadgenError):
    """A cluster that cannot be started, reached, or safely used."""


class SessionRefused(ClusterError):  # noqa: N818 - what happened, as the load names it
    """A load session that was opened and is not used: another database, level or setting, or another run's tables."""


class LockLost(ClusterError):  # noqa: N818
    """The row that says whose run the server serves is no longer this run's: another has taken it, or it is gone."""


class StoreError(LoadgenError):
    """A run directory or a history file that cannot be written or read."""
