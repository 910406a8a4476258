"""Runs a module of the tests in a network of its own: loopback, one private address, names that it resolves itself."""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

ADDRESS = "10.1.2.3"

_UNSHARE = ("unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child")
_SET_UP = """
set -e
PATH="$PATH:/usr/sbin:/sbin"
ip link set lo up
for address in {addresses}; do
    case $address in
        *:*) ip -6 address add "$address/128" dev lo nodad ;;
        *) ip address add "$address/32" dev lo ;;
    esac
done
for network in {networks}; do
    case $network in
        *:*) ip -6 route add local "$network" dev lo ;;
        *) ip route add local "$network" dev lo ;;
    esac
done
mount --bind {directory}/hosts /etc/hosts
[ ! -e {directory}/resolv.conf ] || mount --bind {directory}/resolv.conf /etc/resolv.conf
exec {python} -m {module} {arguments}
"""


def unavailable() -> str | None:
    """Why no such network can be made here, or None if it can."""
    tried = subprocess.run(
        [*_UNSHARE, "sh", "-c", "mount --bind /etc/hosts /etc/hosts"], capture_output=True, text=True
    )
    return f"no network namespace can be made here: {tried.stderr.strip()}" if tried.returncode else None


async def run_in_namespace(
    module: str,
    *arguments: str,
    names: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
    networks: tuple[str, ...] = (),
    resolver: str = "",
    timeout: float = 90.0,
) -> str:
    """Standard output of `python -m module`, run where `names` resolve to ADDRESS and nothing else is reachable.

    Loopback holds ADDRESS and `addresses`; every address of `networks` is this host's own as well, so that a
    listener on the wildcard address hears of each connection to any of them. `resolver`: /etc/resolv.conf.
    What the module started ends with it.
    """
    with tempfile.TemporaryDirectory(prefix="presence-namespace-") as directory:
        hosts = "127.0.0.1 localhost\n" + "".join(f"{ADDRESS} {name}\n" for name in names)
        (Path(directory) / "hosts").write_text(hosts)
        if resolver:
            (Path(directory) / "resolv.conf").write_text(resolver)
        script = _SET_UP.format(
            addresses=" ".join((ADDRESS, *addresses)),
            networks=" ".join(networks),
            directory=directory,
            python=sys.executable,
            module=module,
            arguments=" ".join(arguments),
        )
        process = await asyncio.create_subprocess_exec(
            *(*_UNSHARE, "sh", "-c", script),
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
            raise AssertionError(f"{module} did not end within {timeout} s:\n{err.decode()}") from None
    assert process.returncode == 0, err.decode()
    return out.decode()
