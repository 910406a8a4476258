"""Name resolution: who asks, who waits, and what a silent name server cannot do."""

import asyncio
import ipaddress
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from presence.agent.names import RESERVED, THREADS, Resolver, as_address
from tests.support.names import HangingNames, name_hosts


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingNames]:
    names = HangingNames(monkeypatch)
    yield names
    names.answer.set()


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.close()


LOCAL = [ipaddress.ip_address("127.0.0.1")]


class TestResolver:
    """The system's resolver, in threads of its own."""

    @pytest.mark.parametrize("text", ["10.0.0.1", "fd00::1"])
    async def test_an_address_is_not_asked_for(self, resolver: Resolver, names: HangingNames, text: str) -> None:
        assert await resolver.addresses(text, 5) == [ipaddress.ip_address(text)]
        assert names.asked == []

    async def test_those_who_ask_for_a_name_at_once_share_one_look_up(
        self, resolver: Resolver, names: HangingNames
    ) -> None:
        asking = [asyncio.create_task(resolver.addresses("hanging.corp", 20)) for _ in range(50)]
        await names.is_asked()
        names.answer.set()
        assert await asyncio.gather(*asking) == [LOCAL] * 50
        assert names.asked == ["hanging.corp"]

    async def test_an_answer_is_not_remembered(self, resolver: Resolver, names: HangingNames) -> None:
        for _ in range(2):
            assert await resolver.addresses("known.corp", 20) == LOCAL
        assert names.asked == ["known.corp"] * 2

    async def test_who_waits_too_long_gives_up_alone(self, resolver: Resolver, names: HangingNames) -> None:
        patient = asyncio.create_task(resolver.addresses("hanging.corp", 20))
        with pytest.raises(TimeoutError):
            await resolver.addresses("hanging.corp", 0.05)
        names.answer.set()
        assert await patient == LOCAL
        assert names.asked == ["hanging.corp"]

    async def test_other_names_are_not_delayed(self, resolver: Resolver, names: HangingNames) -> None:
        hanging = [asyncio.create_task(resolver.addresses(f"{n}.hanging.corp", 20)) for n in range(20)]
        for _ in hanging:
            await names.is_asked()
        assert await resolver.addresses("known.corp", 20) == LOCAL
        names.answer.set()
        assert await asyncio.gather(*hanging) == [LOCAL] * 20

    async def test_names_that_hang_leave_threads_for_those_that_resolved_before(
        self, resolver: Resolver, names: HangingNames
    ) -> None:
        assert await resolver.addresses("known.corp", 20) == LOCAL
        hanging = [asyncio.create_task(resolver.addresses(f"{n}.hanging.corp", 20)) for n in range(THREADS)]
        for _ in range(THREADS - RESERVED + 1):
            await names.is_asked()
        assert await resolver.addresses("known.corp", 20) == LOCAL
        names.answer.set()
        await asyncio.gather(*hanging)

    async def test_what_nobody_waits_for_any_more_is_not_looked_up(
        self, resolver: Resolver, names: HangingNames
    ) -> None:
        hanging = [asyncio.create_task(resolver.addresses(f"{n}.hanging.corp", 20)) for n in range(THREADS)]
        for _ in range(THREADS - RESERVED):
            await names.is_asked()
        with pytest.raises(TimeoutError):
            await resolver.addresses("late.corp", 0.05)
        names.answer.set()
        await asyncio.gather(*hanging)
        assert "late.corp" not in names.asked

    async def test_a_name_that_is_not_known_is_told_to_all_who_asked(
        self, resolver: Resolver, names: HangingNames
    ) -> None:
        asking = [resolver.addresses("unknown.corp", 20) for _ in range(3)]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(answer) for answer in answers] == [socket.gaierror] * 3
        assert await resolver.addresses("known.corp", 20) == LOCAL

    async def test_an_error_that_nobody_waits_for_any_more_is_no_trouble(
        self, resolver: Resolver, names: HangingNames, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(TimeoutError):
            await resolver.addresses("unknown.corp", 0)
        await names.is_asked()
        assert await resolver.addresses("known.corp", 20) == LOCAL
        assert caplog.records == []

    async def test_each_address_once_in_the_system_s_order(
        self, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = ("10.0.0.2", "fd00::1", "10.0.0.1", "10.0.0.2", "fd00:0::1")
        name_hosts(monkeypatch, {"h.corp": order})
        found = await resolver.addresses("h.corp", 20)
        assert [str(address) for address in found] == ["10.0.0.2", "fd00::1", "10.0.0.1"]

    async def test_closing_does_not_wait_for_a_name_server(self, names: HangingNames) -> None:
        resolver = Resolver()
        asking = asyncio.create_task(resolver.addresses("hanging.corp", 20))
        await names.is_asked()
        resolver.close()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    def test_a_silent_name_server_does_not_keep_the_program_from_ending(self) -> None:
        program = (
            "import asyncio, socket, time\n"
            "from tests.support.requests import client\n"
            "socket.getaddrinfo = lambda *_, **__: time.sleep(60)\n"
            "async def main():\n"
            "    async with client(dns_timeout=0.1) as http:\n"
            "        print((await http.send('http://h.corp/')).outcome.fault)\n"
            "asyncio.run(main())\n"
        )
        root = Path(__file__).parents[3]
        ended = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=30)
        assert (ended.stdout, ended.stderr, ended.returncode) == ("timeout\n", "", 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1", "127.0.0.1"), ("0:0::1", "::1"), ("h", None), ("0x7f.1", None), ("2130706433", None)],
)
def test_what_is_an_address_literally(text: str, expected: str | None) -> None:
    found = as_address(text)
    assert (None if found is None else str(found)) == expected
