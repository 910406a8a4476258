"""A real name server (dnsmasq) for a network of its own: its records are what the test says, and can change."""

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

Hosts = Mapping[str, Sequence[str]]


class NameServer:
    """`async with NameServer("127.0.0.53", directory, hosts)`: answers for `test.` only, with a TTL of zero.

    A name with several addresses has them all in its answer, in rotating order. `options`: more of dnsmasq's,
    such as `--cname=alias.test,name.test`.
    """

    def __init__(self, address: str, directory: Path, hosts: Hosts, options: Sequence[str] = ()) -> None:
        self._address = address
        self._file = directory / f"hosts-{address}"
        self._options = options
        self._write(hosts)

    async def __aenter__(self) -> Self:
        found = shutil.which("dnsmasq", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        assert found, "dnsmasq is not installed; run: sudo tests/debian"
        self._process = await asyncio.create_subprocess_exec(
            found,
            *("--no-daemon", "--conf-file=/dev/null", "--log-facility=-", "--pid-file="),
            *("--no-hosts", f"--addn-hosts={self._file}", "--no-resolv", "--local=/test/"),
            *("--local-ttl=0", "--cache-size=0", "--bind-interfaces", f"--listen-address={self._address}"),
            *self._options,
            stderr=asyncio.subprocess.PIPE,
        )
        await self._hosts_are_read()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._process.kill()
        await self._process.communicate()

    async def change(self, hosts: Hosts) -> None:
        """Replaces the names; returns once the server answers with the new ones."""
        self._write(hosts)
        self._process.send_signal(signal.SIGHUP)
        await self._hosts_are_read()

    def _write(self, hosts: Hosts) -> None:
        lines = (f"{address} {name}\n" for name, addresses in hosts.items() for address in addresses)
        self._file.write_text("".join(lines))

    async def _hosts_are_read(self) -> None:
        assert self._process.stderr is not None
        said: list[str] = []
        async with asyncio.timeout(20):
            async for line in self._process.stderr:
                said.append(line.decode())
                if f" read {self._file} " in said[-1]:
                    return
        raise AssertionError("dnsmasq ended:\n" + "".join(said))
