"""One native thread with one uvloop event loop: transactions run there, and gevent never waits on a statement.

Locust patches the standard library with gevent, whose "threads" are greenlets of one native thread. So the thread is
started by the unpatched call, shares no lock with greenlets, and is waited for by gevent's own sleep, during which
other greenlets run. It is started after ``--processes`` has forked: a fork does not copy threads.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import gevent
import uvloop
from gevent import monkey

from loadgen.errors import LoadgenError

T = TypeVar("T")

SHORTEST_SLEEP_S = 0.001
LONGEST_SLEEP_S = 0.02
START_LIMIT_S = 10.0
MOST_PROBLEMS = 20


class LoopTimeoutError(LoadgenError):
    """The loop did not answer in time."""


class Pending(Generic[T]):
    """A coroutine that runs on the loop, seen from another thread or greenlet."""

    def __init__(self) -> None:
        self._done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._done

    def result(self, timeout_s: float) -> T:
        """What it returned, or its exception. Raises LoopTimeoutError after ``timeout_s`` seconds."""
        if not sleep_until(lambda: self._done, timeout_s):
            raise LoopTimeoutError(f"the load loop gave no answer within {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> None:
        try:
            self._value = await coroutine
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is asked for
            self._error = error
        self._done = True


class LoopThread:
    """The thread and its loop. ``problems`` holds what callbacks raised, one line each, the first few."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.loop.set_exception_handler(self._note)
        self.problems: list[str] = []
        self._process_id = os.getpid()
        self._ended = False
        self._running: set[Pending[Any]] = set()
        started: list[bool] = []
        self.loop.call_soon(started.append, True)
        monkey.get_original("_thread", "start_new_thread")(self._main, ())
        if not sleep_until(lambda: bool(started), START_LIMIT_S):
            raise LoopTimeoutError(f"the load loop did not start within {START_LIMIT_S:g} s")

    @property
    def alive(self) -> bool:
        """Whether the thread runs, in this process."""
        return not self._ended and self._process_id == os.getpid()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Pending[T]:
        """Run ``coroutine`` on the loop, and return at once. Raises LoopTimeoutError if the loop has ended."""
        if not self.alive:
            coroutine.close()
            raise LoopTimeoutError("the load loop has ended")
        pending: Pending[T] = Pending()

        def begin() -> None:
            self._running.add(pending)  # the loop itself keeps only weak references
            pending._task = self.loop.create_task(pending._run(coroutine))
            pending._task.add_done_callback(lambda _: self._running.discard(pending))

        self.call_soon(begin)
        return pending

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call ``call`` on the loop, and return at once; nothing once the loop has ended."""
        assert self._process_id == os.getpid(), "this loop's thread stayed in the process that was forked"
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self.loop.call_soon_threadsafe(call)

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop the loop and wait for its thread; whether it ended in time. Idempotent."""
        if self.alive:
            self.call_soon(self.loop.stop)
        return sleep_until(lambda: self._ended, timeout_s)

    def _main(self) -> None:
        try:
            self.loop.run_forever()
            self._cancel_all()
        finally:
            self._ended = True
            self.loop.close()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0) if tasks else asyncio.sleep(0))

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # Logging would take a lock that a greenlet may hold, and stop every transaction meanwhile.
        if len(self.problems) < MOST_PROBLEMS:
            error = context.get("exception")
            self.problems.append(f"{context.get('message', '')}: {error!r}" if error else str(context.get("message")))


def sleep_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Sleep until ``condition`` holds, at most ``timeout_s`` seconds. Other greenlets run. True if it holds."""
    deadline = time.monotonic() + timeout_s
    pause_s = SHORTEST_SLEEP_S
    while not condition():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        gevent.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, LONGEST_SLEEP_S)
    return True
