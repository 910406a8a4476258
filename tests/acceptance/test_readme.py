"""The README's commands, run as they stand there."""

import asyncio
import os
import re
import select
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"


def commands(heading: str) -> str:
    """The shell blocks of a section, one after the other."""
    section = README.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 4, "the README has no such commands"
    return "".join(blocks)


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


@asynccontextmanager
async def shell(script: str, directory: Path, env: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs the script; its standard output is the file `printed`. On leaving, nothing that it started is left."""
    # All that is started inherits one end of a pipe: the other one tells when the last of them has ended.
    alive, inherited = os.pipe()
    with (directory / "printed").open("wb") as printed:
        process = await asyncio.create_subprocess_exec(
            "bash", "-eu", "-o", "pipefail", "-c", script, cwd=directory, env=env, stdin=asyncio.subprocess.DEVNULL,
            stdout=printed, start_new_session=True, pass_fds=(inherited,),
        )  # fmt: skip
    os.close(inherited)
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            if (await asyncio.to_thread(select.select, [alive], [], [], 20))[0]:
                break
        await process.wait()
        os.close(alive)


@pytest.mark.timeout(180)
async def test_the_steps_of_the_api_work_as_they_stand_in_the_readme(tmp_path: Path) -> None:
    plane, service, health = free_ports(3)
    # Nothing but the ports differs: something else may have those.
    script = commands("The API, step by step").replace(":8480", f":{plane}").replace("8099", str(service))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PRESENCE_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PRESENCE_CP_SERVER__PORT": str(plane),
        "PRESENCE_HEALTH__LISTEN": f'["127.0.0.1:{health}"]',
        "PRESENCE_CONTROL__SOCKET": str(tmp_path / "control.sock"),
    }
    async with shell(script, tmp_path, environment) as process:
        try:
            code = await asyncio.wait_for(process.wait(), 90)
        except TimeoutError:
            pytest.fail(f"the commands have not ended:\n{written(tmp_path)}")
        assert code == 0, written(tmp_path)
    printed = (tmp_path / "printed").read_text()
    assert printed.count('"State":"succeeded"') == 2, printed
    requests = (tmp_path / "service.log").read_text()
    assert f'"GET /ScanEnded/{SUBJECT} HTTP/1.1" 200' in requests
    assert f'"GET /?ShopScan={SUBJECT} HTTP/1.1" 200' in requests
    for port in (plane, service, health):
        with socket.socket() as knocking:
            assert knocking.connect_ex(("127.0.0.1", port)) != 0


def written(directory: Path) -> str:
    files = [directory / "printed", *sorted(directory.glob("*.log"))]
    return "\n".join(f"{file.name}:\n{file.read_text()}" for file in files if file.exists())
