"""Load and proof of consistency for transactional databases.

``loadgen.open_run("runs/latest")`` gives a stored run as pandas DataFrames (docs/data.md).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadgen.report.frames import open_run as open_run


def __getattr__(name: str) -> Any:
    if name == "open_run":
        # Only for who asks: pyarrow and pandas would cost every start of a program.
        from loadgen.report.frames import open_run

        return open_run
    raise AttributeError(f"module 'loadgen' has no attribute {name!r}")
