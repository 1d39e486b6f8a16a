"""The virtual loop: time jumps, order is kept, deadlocks and forgotten failures surface."""

import asyncio
from contextlib import suppress

import pytest
from glasslog.common.runtime.memory.basics import MemoryClock, SeededRandom
from glasslog.common.runtime.memory.loop import (
    Deadlock,
    VirtualTimeExceeded,
    VirtualTimeLoop,
    run_virtual,
)

_DAY_S = 86_400


def test_time_jumps_to_the_next_timer() -> None:
    async def main() -> int:
        clock = MemoryClock()
        before = clock.now_ms()
        await asyncio.sleep(3 * _DAY_S)
        return clock.now_ms() - before

    assert run_virtual(main, timeout_ms=4 * _DAY_S * 1_000) == 3 * _DAY_S * 1_000


def test_a_timer_is_never_a_millisecond_early() -> None:
    """A core asked for 100 ms and was woken at 99: it found nothing due, and its shell armed 1 ms again."""

    async def main() -> None:
        clock = MemoryClock()
        for step_ms in (1, 7, 33, 100, 101, 999) * 50:
            deadline_ms = clock.now_ms() + step_ms
            await asyncio.sleep(step_ms / 1_000)
            assert clock.now_ms() == deadline_ms

    run_virtual(main)


def test_ready_callbacks_run_in_order_and_executor_work_inline() -> None:
    async def main() -> list[str]:
        order: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_soon(order.append, "first")
        work = loop.run_in_executor(None, order.append, "work")
        loop.call_soon(order.append, "last")
        await work
        await asyncio.sleep(0)
        return order

    assert run_virtual(main) == ["first", "work", "last"]


def test_timers_of_the_same_moment_run_in_the_order_in_which_they_were_set() -> None:
    async def main() -> list[int]:
        order: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(200):
            timer = loop.call_at(loop.time() + 1, order.append, number)
            if number % 3:
                timer.cancel()
        await asyncio.sleep(1)
        return order

    assert run_virtual(main) == list(range(0, 200, 3))


def test_cancelled_timers_are_forgotten_long_before_they_are_due() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        for _ in range(10_000):
            loop.call_later(_DAY_S, lambda: None).cancel()
        return len(loop._timers) if isinstance(loop, VirtualTimeLoop) else -1

    assert 0 <= run_virtual(main) < 1_000


def test_executor_errors_reach_the_caller() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().run_in_executor(None, lambda: 1 // 0)

    run_virtual(main)


def test_a_deadlock_names_the_tasks() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(stuck(), name="the-stuck-one")

    with pytest.raises(Deadlock, match=r"every task waits(.|\n)*the-stuck-one: .*stuck"):
        run_virtual(main)


def test_virtual_time_is_limited() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - never ending is the point
            await asyncio.sleep(1)

    with pytest.raises(VirtualTimeExceeded, match="not done after 5000 virtual ms"):
        run_virtual(main, timeout_ms=5_000)


def test_spinning_without_time_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasslog.common.runtime.memory.loop._ROUNDS_WITHOUT_TIME", 1_000)

    async def main() -> None:
        while True:  # noqa: ASYNC110 - never ending is the point
            await asyncio.sleep(0)

    with pytest.raises(VirtualTimeExceeded, match="livelock"):
        run_virtual(main)


def test_a_forgotten_failure_fails_the_run() -> None:
    kept: list[asyncio.Task[None]] = []

    async def fail() -> None:
        raise ValueError("nobody looked")

    async def main() -> None:
        kept.append(asyncio.create_task(fail()))
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main)
    assert caught.group_contains(ValueError, match="nobody looked")


def test_a_failing_callback_fails_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(0.5, lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main)
    assert caught.group_contains(ZeroDivisionError)


def test_leftovers_are_cancelled_and_may_clean_up() -> None:
    cleaned: list[str] = []

    async def leftover() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append("yes")

    async def main() -> str:
        task = asyncio.create_task(leftover())
        await asyncio.sleep(1)
        assert not task.done()
        return "result"

    assert run_virtual(main) == "result"
    assert cleaned == ["yes"]


def test_a_failure_during_clean_up_surfaces() -> None:
    async def leftover() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("clean-up failed")

    async def main() -> None:
        asyncio.create_task(leftover())  # noqa: RUF006 - left over on purpose
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main)
    assert caught.group_contains(ValueError, match="clean-up failed")


def test_real_io_is_refused() -> None:
    async def main() -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    with pytest.raises(RuntimeError, match="no real I/O"):
        run_virtual(main)


def test_a_coroutine_object_runs_too() -> None:
    async def main() -> str:
        return "ok"

    assert run_virtual(main()) == "ok"


def test_sets_of_tasks_iterate_alike_each_run() -> None:
    """A task group cancels a *set* of tasks: by address, two runs of one seed cancelled in two orders."""

    async def main() -> list[int]:
        order: list[int] = []

        async def member(number: int) -> None:
            try:
                await asyncio.sleep(10)
            finally:
                order.append(number)

        async def breaker() -> None:
            await asyncio.sleep(1)
            raise ValueError

        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(member(number))
                group.create_task(breaker())
        return order

    assert run_virtual(main) == run_virtual(main) == list(range(20))


def test_seeded_randomness_repeats_and_forks_are_independent() -> None:
    first, second = SeededRandom(7), SeededRandom(7)
    second.fork("a").randrange(1_000)
    draws = [[each.randrange(1_000), each.uniform(0, 1), each.uuid()] for each in (first, second)]
    assert draws[0] == draws[1]
    assert SeededRandom(7).fork("a").uuid() != SeededRandom(7).fork("b").uuid()
    assert SeededRandom(7).fork("a").uuid() == SeededRandom(7).fork("a").uuid()
    assert len(SeededRandom(7).uuid()) == 16


def test_the_wall_clock_may_jump_alone() -> None:
    async def main() -> None:
        clock = MemoryClock()
        monotonic_ms, wall_ms = clock.now_ms(), clock.wall_ms()
        clock.wall_offset_ms -= 5_000
        assert clock.now_ms() == monotonic_ms
        assert clock.wall_ms() == wall_ms - 5_000

    run_virtual(main)
