"""The loop thread: runs coroutines beside gevent, and is waited for without blocking it."""

import asyncio
import os

import gevent
import pytest

from loadgen.load.loop import LoopThread, LoopTimeoutError


async def answer(value: int) -> int:
    """A coroutine that takes a turn of the loop."""
    await asyncio.sleep(0)
    return value


async def broken() -> int:
    """A coroutine that raises."""
    raise ValueError("as it should")


def test_loop_thread_gives_results_and_raises_errors() -> None:
    """What a coroutine returns or raises arrives where its result is asked for."""
    thread = LoopThread()

    assert thread.submit(answer(7)).result(5) == 7
    with pytest.raises(ValueError, match="as it should"):
        thread.submit(broken()).result(5)
    assert thread.stop()


def test_loop_thread_result_gives_up_after_its_timeout() -> None:
    """A coroutine that never ends costs its waiter the timeout and no more; stopping the loop cancels it."""
    thread = LoopThread()
    never = thread.submit(asyncio.sleep(60))

    with pytest.raises(LoopTimeoutError):
        never.result(0.01)
    assert thread.stop()
    assert never.done


def test_loop_thread_waiting_lets_greenlets_run() -> None:
    """Waiting for the loop is cooperative: another greenlet goes on meanwhile."""
    thread = LoopThread()
    turns: list[int] = []

    def spin() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0.001)

    spinning = gevent.spawn(spin)
    thread.submit(asyncio.sleep(0.03)).result(5)
    spinning.kill()
    thread.stop()

    assert len(turns) > 3


def test_loop_thread_stopped_refuses_work() -> None:
    """After its end nothing hangs: stopping again is harmless, and work is refused."""
    thread = LoopThread()
    assert thread.stop()
    assert thread.stop()
    assert not thread.alive
    with pytest.raises(LoopTimeoutError):
        thread.submit(answer(1))
    thread.call_soon(lambda: None)


def test_loop_thread_is_dead_in_a_forked_child() -> None:
    """A fork does not copy threads: the child can tell, and does not wait for a loop that never turns."""
    thread = LoopThread()
    child = os.fork()
    if child == 0:
        os._exit(0 if not thread.alive else 1)
    _, status = os.waitpid(child, 0)
    thread.stop()

    assert os.waitstatus_to_exitcode(status) == 0


def test_loop_thread_keeps_what_a_callback_raised() -> None:
    """An exception in a callback is not lost, though the thread does not log."""
    thread = LoopThread()
    thread.call_soon(lambda: 1 // 0)
    thread.submit(answer(1)).result(5)
    thread.stop()

    assert any("ZeroDivisionError" in problem for problem in thread.problems)
