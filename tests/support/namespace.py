"""Runs a module of the tests in a network of its own: loopback, one private address, names that it resolves itself."""

import asyncio
import sys
import tempfile
from pathlib import Path

ADDRESS = "10.1.2.3"

_SET_UP = """
set -e
ip link set lo up
ip address add {address}/32 dev lo
mount --bind {hosts} /etc/hosts
exec {python} -m {module} {arguments}
"""


async def run_in_namespace(module: str, *arguments: str, names: tuple[str, ...]) -> str:
    """Standard output of `python -m module`, run where `names` resolve to ADDRESS and nothing else is reachable."""
    with tempfile.NamedTemporaryFile("w", suffix="-hosts") as hosts:
        hosts.write("127.0.0.1 localhost\n" + "".join(f"{ADDRESS} {name}\n" for name in names))
        hosts.flush()
        script = _SET_UP.format(
            address=ADDRESS, hosts=hosts.name, python=sys.executable, module=module, arguments=" ".join(arguments)
        )
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--map-root-user", "--net", "--mount", "sh", "-c", script),
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(90):
            out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
