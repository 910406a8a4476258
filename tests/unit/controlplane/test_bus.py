"""Wake-ups melt together and are taken once."""

import asyncio

from presence.controlplane.bus import Bus


async def test_wake_ups_are_taken_together_and_once() -> None:
    bus = Bus()
    for presence in ("a", "b", "a"):
        bus.wake(presence)
    assert await bus.wait(1) == {"a", "b"}
    assert await bus.wait(0) == set()


async def test_a_wake_up_ends_the_wait() -> None:
    bus = Bus()
    waiting = asyncio.create_task(bus.wait(10))
    await asyncio.sleep(0)
    bus.wake("a")
    assert await waiting == {"a"}
