"""Run by test_description.py in a network of its own, the inside: a host with the agent, and a service beside it.

The control plane is outside, in a second network. One link joins the two, and at its inner end a firewall lets nothing
in but answers to what was asked from inside. The findings go to standard output as JSON.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp

from tests.support.namespace import ADDRESS
from tests.support.processes import Program, agent_env
from tests.support.system import Api, output
from tests.support.target import Target

INSIDE, OUTSIDE = "203.0.113.2", "203.0.113.10"
"""The ends of the link."""
_IN_OUTSIDE = ("nsenter", "--net=/run/netns/outside")
_JOIN = f"""
mount -t tmpfs tmpfs /run
ip netns add outside
ip link add link0 type veth peer name link0 netns outside
ip address add {INSIDE}/24 dev link0
ip link set link0 up
outside="{" ".join(_IN_OUTSIDE)}"
$outside ip link set lo up
$outside ip address add {OUTSIDE}/24 dev link0
$outside ip link set link0 up
$outside ip route add {ADDRESS} via {INSIDE}
"""
_FIREWALL = """
iptables -P INPUT DROP
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
"""
_KNOCK = """
import socket, sys
for place in sys.argv[1:]:
    host, _, port = place.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        print(place)
    except OSError:
        pass
"""


def shell(script: str) -> None:
    command = ["sh", "-c", f'set -e\nPATH="$PATH:/usr/sbin:/sbin"\n{script}']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def open_to_outside(*places: str) -> list[str]:
    """Those of the places that a program outside gets a connection to."""
    knocking = await asyncio.create_subprocess_exec(
        *_IN_OUTSIDE, sys.executable, "-c", _KNOCK, *places, stdout=asyncio.subprocess.PIPE
    )
    found, _ = await knocking.communicate()
    assert knocking.returncode == 0
    return found.decode().split()


async def main() -> None:
    shell(_JOIN)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        env = {
            "PRESENCE_CP_DATABASE__URL": f"sqlite:///{directory / 'control-plane.db'}",
            "PRESENCE_CP_SERVER__HOST": OUTSIDE,
            "PRESENCE_CP_SERVER__PORT": "0",
        }
        credentials = json.loads(await output("control-plane", "init", "--organization", "Test", "--json", env=env))
        async with (
            Target(host=ADDRESS, port=80) as service,
            Target(host=INSIDE) as other,
            Program("control-plane", "serve", env=env, before=_IN_OUTSIDE) as cloud,
            aiohttp.ClientSession() as http,
        ):
            places = (f"{ADDRESS}:80", f"{INSIDE}:{other.port}")
            found: dict[str, object] = {"without": await open_to_outside(*places)}
            shell(_FIREWALL)
            found["with"] = await open_to_outside(*places)
            service.connections = other.connections = 0
            api = Api(http, (await cloud.said("listening"))["url"])
            await api.login(credentials)
            found |= await deliver(api, service, directory, places)
            found["connections"] = service.connections + other.connections
    print(json.dumps(found))


async def deliver(api: Api, service: Target, directory: Path, places: tuple[str, ...]) -> dict[str, object]:
    presence_id = (await api.call("POST", "Presences", {"PresenceName": "inside"}))["Id"]
    key = (await api.call("GET", f"Presences/{presence_id}/NewKey"))["Key"]
    env = agent_env(api.url, key, directory, PRESENCE_CONTROL_PLANE__ALLOW_PLAINTEXT="true")
    del env["PRESENCE_EGRESS__ALLOW"]  # a private address needs no rule
    async with Program("run", env=env) as agent:
        await agent.said("link", state="online")
        await api.webhook(presence_id, "http://myservice.com/ScanEnded/{SubjectId}")
        (delivery,) = await api.event()
        (request,) = await service.received(1)
        ended = await api.ended(delivery)
        while_connected = await open_to_outside(*places)
        return {"request": request.decode(), "state": ended["State"], "while_connected": while_connected}


if __name__ == "__main__":
    asyncio.run(main())
