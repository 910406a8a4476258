"""A queue that is taken in batches."""

import asyncio

from presence.agent.batches import Batches


async def test_takes_the_oldest_first_and_no_more_than_asked_for() -> None:
    batches: Batches[int] = Batches()
    for number in range(5):
        batches.put(number)
    assert await batches.take(3) == [0, 1, 2]
    assert await batches.take(3, 1.0) == [3, 4]


async def test_gives_nothing_once_the_patience_is_over() -> None:
    batches: Batches[int] = Batches()
    assert await batches.take(3, 0.01) == []
    batches.put(1)
    assert await batches.take(3, 0.0) == [1]


async def test_what_comes_while_it_waits_is_taken_at_once() -> None:
    batches: Batches[int] = Batches()
    taking = asyncio.create_task(batches.take(3, 20.0))
    await asyncio.sleep(0)
    batches.put(7)
    async with asyncio.timeout(5):
        assert await taking == [7]
