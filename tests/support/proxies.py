"""Real proxies from Debian as programs of their own: squid, tinyproxy, microsocks."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "presence", "s3cret"
CREDENTIALS = f"{USER}:{PASSWORD}"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Proxy:
    """A proxy that listens on `port` of this machine. `directory`: its files."""

    port: int
    directory: Path

    @property
    def place(self) -> str:
        return f"{HOST}:{self.port}"

    def access_log(self) -> list[str]:
        """What was asked of squid and has ended: method and destination."""
        lines = (self.directory / "access.log").read_text().splitlines()
        asked = [" ".join(line.split()[5:7]) for line in lines]
        return [request for request in asked if not request.startswith("-")]


@asynccontextmanager
async def squid(*, hosts: str = "", auth: bool = True) -> AsyncIterator[Proxy]:
    """Squid; `hosts`: names that it alone knows, as in /etc/hosts. `auth`: it wants user and password, by Basic."""
    with _directory() as directory:
        helper = directory / "auth"
        known = f'"$line" = "{USER} {PASSWORD}"'
        helper.write_text(f"#!/bin/sh\nwhile read -r line; do [ {known} ] && echo OK || echo ERR; done\n")
        helper.chmod(0o755)
        (directory / "hosts").write_text(f"{hosts}\n")
        port = _free_port()
        (directory / "squid.conf").write_text(
            f"http_port {HOST}:{port}\n"
            + (f"auth_param basic program {helper}\nauth_param basic children 1\n" if auth else "")
            + ("acl users proxy_auth REQUIRED\nhttp_access allow users\n" if auth else "http_access allow localhost\n")
            + f"http_access deny all\nhosts_file {directory}/hosts\ncoredump_dir {directory}\n"
            + f"access_log stdio:{directory}/access.log\ncache_log stdio:/dev/stderr\ncache_mem 8 MB\ncache deny all\n"
            + "pinger_enable off\nnetdb_filename none\npid_filename none\nshutdown_lifetime 0 seconds\n"
        )
        async with _running(port, "squid", "-N", "-d1", "-f", f"{directory}/squid.conf"):
            yield Proxy(port, directory)


@asynccontextmanager
async def tinyproxy() -> AsyncIterator[Proxy]:
    """Tinyproxy, with user and password."""
    with _directory() as directory:
        port = _free_port()
        (directory / "tinyproxy.conf").write_text(
            f"Port {port}\nListen {HOST}\nTimeout 600\nMaxClients 10\nLogLevel Info\nBasicAuth {USER} {PASSWORD}\n"
        )
        async with _running(port, "tinyproxy", "-d", "-c", f"{directory}/tinyproxy.conf"):
            yield Proxy(port, directory)


@asynccontextmanager
async def microsocks() -> AsyncIterator[Proxy]:
    """Microsocks, with user and password."""
    with _directory() as directory:
        port = _free_port()
        async with _running(port, "microsocks", "-i", HOST, "-p", str(port), "-u", USER, "-P", PASSWORD):
            yield Proxy(port, directory)


@asynccontextmanager
async def _running(port: int, program: str, *arguments: str) -> AsyncIterator[None]:
    """The program, once it listens: that can only be found out by asking."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert found, f"{program} is not installed; run: sudo tests/debian"
    both = asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(found, *arguments, stdout=asyncio.subprocess.PIPE, stderr=both)
    assert process.stdout is not None
    said = asyncio.create_task(process.stdout.read())
    try:
        async with asyncio.timeout(20):
            while not await _listens(port):
                assert not said.done(), f"{program} ended:\n{said.result().decode()}"
                await asyncio.sleep(0.01)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await said


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


class _directory:
    """A directory that a program may read which is not ours: pytest's are closed to it."""

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix="presence-proxy-"))
        self._path.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self._path, "proxy")
        return self._path

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self._path)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
