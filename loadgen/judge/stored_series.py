"""The series of a stored run: as it is kept beside the history, or made from it."""

import zlib
from pathlib import Path

from loadgen.errors import StoreError
from loadgen.history.run_directory import RunDirectory
from loadgen.history.timeline import timeline
from loadgen.judge.stored_run import StoredRun, open_run
from loadgen.measures.figures import facts_of
from loadgen.measures.series import Series, series_of
from loadgen.measures.series_file import load_series, store_series
from loadgen.untrusted import MOST_JSON_BYTES, read_plain


def read_series(run_dir: Path) -> Series:
    """The series of the run in ``run_dir``. If none is kept, or it does not belong to this run, it is counted from the
    history, which takes seconds for each ten million ops. Raises StoreError where there is no run."""
    try:
        return load_series(RunDirectory(run_dir).series, _made_from(run_dir))
    except StoreError:
        return series_of_run(open_run(run_dir))


def series_of_run(run: StoredRun) -> Series:
    """The series of a run that was opened."""
    processes = run.offered.processes
    return series_of(processes, timeline(processes), facts_of(run))


def keep_series(series: Series, run_dir: Path) -> None:
    """Keep the series of the run in ``run_dir`` beside its history. Raises StoreError."""
    store_series(series, RunDirectory(run_dir).series, _made_from(run_dir))


def _made_from(run_dir: Path) -> dict[str, str]:
    """What a series must say it was made from: both records, the closing one lists the streams by their checksums."""
    records = [RunDirectory(run_dir).plan, RunDirectory(run_dir).load]
    return {record.name: f"{zlib.crc32(read_plain(record, MOST_JSON_BYTES)):08x}" for record in records}
