"""What a hand does with finished ops: each one reaches the head, or the process does not call itself orderly."""

from collections.abc import Iterator
from typing import Any

import pytest
from locust.stats import RequestStats

from loadgen.engines.engine import Address
from loadgen.history.history import ROW_DONE
from loadgen.load.load_worker import BATCH_ROWS, MOST_TRIES, LoadWorker
from loadgen.op import Completion
from tests.load.fake_engine import sale_plan
from tests.load.test_live import row
from workloads.flashsale import SALE


class Link:
    """A link to a head that fails when it is told to. ``heard`` has the first number and the size of each batch."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []
        self.numbers: list[int] = []
        self.failures = 0
        self.after = False
        self.facts: dict[str, Any] = {}

    def want(self, count: int) -> None:
        """Give none."""

    def sessions(self, count: int) -> None:
        """There are none."""

    def rows(self, batch: Any, *, first: int, in_flight: int, queued: int) -> None:
        """Hear a batch, or fail before it, or after it."""
        if self.failures and not self.after:
            self.failures -= 1
            raise RuntimeError("no way")
        if not self.heard or first >= sum(size for _, size in self.heard):
            self.heard.append((first, batch.num_rows))
            self.numbers += batch.column("number").to_pylist()
        if self.failures:
            self.failures -= 1
            raise RuntimeError("no answer")

    def closed(self, facts: dict[str, Any]) -> None:
        """Keep the last word."""
        self.facts = facts


@pytest.fixture
def link() -> Link:
    """A link that works."""
    return Link()


@pytest.fixture
def load_worker(link: Link) -> Iterator[LoadWorker]:
    """A hand without sessions, whose pump stands still."""
    made = LoadWorker(sale_plan(), SALE, Address(), (), (0, 1), "run", link, RequestStats())
    assert made._pump is not None
    made._pump.kill()
    yield made
    made._thread.stop()


def end_ops(load_worker: LoadWorker, numbers: range, rows: list[Completion] | None = None) -> None:
    """Let ops end in the drive, as its seats would."""
    load_worker.scheduler._rows += rows if rows is not None else [row(number) for number in numbers]
    load_worker.scheduler._due.released += len(numbers)


def test_each_op_is_given_once_and_counted(load_worker: LoadWorker, link: Link) -> None:
    """In batches, each with how many were given before it; the last word has the sum."""
    end_ops(load_worker, range(2 * BATCH_ROWS + 1))
    load_worker.finish(0.1, serve_queued=False)

    assert link.heard == [(0, BATCH_ROWS), (BATCH_ROWS, BATCH_ROWS), (2 * BATCH_ROWS, 1)]
    assert link.facts["made"] == 2 * BATCH_ROWS + 1 and link.facts["orderly"]


@pytest.mark.parametrize("after", [False, True], ids=["before the head heard it", "after it did"])
@pytest.mark.parametrize("failures", [1, MOST_TRIES - 1])
def test_a_batch_that_could_not_be_given_is_kept_and_given_again(
    load_worker: LoadWorker, link: Link, failures: int, after: bool
) -> None:
    """None is lost, none comes twice, and the process is orderly: it says what happened."""
    end_ops(load_worker, range(2 * BATCH_ROWS))
    link.failures, link.after = failures, after
    load_worker._try(load_worker._flush)
    end_ops(load_worker, range(2 * BATCH_ROWS, 2 * BATCH_ROWS + 10))
    load_worker.finish(0.1, serve_queued=False)

    assert link.numbers == list(range(2 * BATCH_ROWS + 10))
    assert link.facts["orderly"] and link.facts["made"] == len(link.numbers)
    assert any("no " in warning for warning in link.facts["warnings"])


def test_a_batch_that_can_never_be_given_makes_the_process_disorderly(load_worker: LoadWorker, link: Link) -> None:
    """A row that no column takes: the batches behind it are given, and the last word does not match them."""
    end_ops(load_worker, range(1), [row(0)._replace(number=2**70)])
    load_worker._try(load_worker._flush)
    end_ops(load_worker, range(1, 4))
    load_worker.finish(0.1, serve_queued=False)

    assert link.numbers == [1, 2, 3]
    assert not link.facts["orderly"] and link.facts["made"] == 4
    assert any("1 of 4 rows could not be recorded" in warning for warning in link.facts["warnings"])


def test_statistics_that_fail_lose_no_op(load_worker: LoadWorker, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locust's own view is a view."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(load_worker._locust, "record", fail)
    end_ops(load_worker, range(3))
    load_worker._try(load_worker._flush)
    end_ops(load_worker, range(3, 5))
    load_worker.finish(0.1, serve_queued=False)

    assert link.numbers == [0, 1, 2, 3, 4] and link.facts["orderly"]


@pytest.mark.parametrize("lost", [1, -1], ids=["without a row", "with two"])
def test_an_op_that_became_due_and_left_no_row_makes_the_process_disorderly(
    load_worker: LoadWorker, link: Link, lost: int
) -> None:
    """Ops are counted where they become due, and where their rows are taken."""
    end_ops(load_worker, range(5))
    load_worker.scheduler._due.released += lost
    load_worker.finish(0.1, serve_queued=False)

    assert not link.facts["orderly"] and ROW_DONE
    assert any("became due and left no row" in warning for warning in link.facts["warnings"])
