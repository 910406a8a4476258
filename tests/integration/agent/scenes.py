"""Run by test_delivery.py in a network of its own, with the name of a function below; findings as JSON.

The network holds ADDRESS (`jenkins.corp`), PUBLIC, loopback, and a name server that never answers.
"""

import asyncio
import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from presence.protocol.messages import Fire, Report
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.namespace import ADDRESS
from tests.support.processes import Program, agent_env
from tests.support.system import run
from tests.support.target import Target

NAME, PUBLIC, SILENT = "jenkins.corp", "203.0.113.7", "127.0.0.99"
PROXIED = "jira.corp"
Findings = dict[str, Any]


@asynccontextmanager
async def running(env: dict[str, str], *arguments: str) -> AsyncIterator[Program]:
    """An agent that is stopped as its supervisor would stop it."""
    async with Program("run", *arguments, env=env) as agent:
        yield agent
        assert await agent.stop() == 0, agent.text()


async def delivered(cloud: ScriptedControlPlane, fires: list[Fire]) -> list[str]:
    """How each ended."""
    ids = await cloud.fire_all(fires)
    return [_told(report) for report in await cloud.reported(*ids)]


def _told(report: Report) -> str:
    return f"{report.state}: {report.reason}" + (", observed" if report.log[-1].observed else "")


async def suggestion() -> Findings:
    """What was seen while everything was let pass becomes the rules under which the same passes, and nothing else."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with (
            Target(host=ADDRESS) as private,
            Target(host=PUBLIC) as public,
            Target() as local,
            Target() as proxy,
            ScriptedControlPlane() as cloud,
        ):
            table = {"host": PROXIED, "proxy": proxy.url(""), "proxy_resolves": True}
            env = agent_env(cloud.url, cloud.key, directory, PRESENCE_RETRY__MAX_ATTEMPTS="1")
            env |= {"PRESENCE_TARGETS": json.dumps([table]), "PRESENCE_EGRESS__METHODS": '["GET", "POST"]'}
            observing = env | {
                "PRESENCE_EGRESS__DEFAULT": "deny",
                "PRESENCE_EGRESS__MODE": "observe",
                "PRESENCE_EGRESS__ALLOW": json.dumps(["127.0.0.1", PROXIED]),
                "PRESENCE_EGRESS__DENY": json.dumps(["10.66.0.0/16"]),
            }

            def legitimate() -> list[Fire]:
                return [
                    fire(f"http://{NAME}:{private.port}/hook/{{SubjectId}}"),
                    fire(f"http://{NAME}:{private.port}/other", method="POST", body="x"),
                    fire(private.url()),
                    fire(public.url()),
                    fire(local.url()),
                    fire(f"http://{PROXIED}/"),
                ]

            def unwanted() -> list[Fire]:
                return [
                    fire("http://169.254.169.254/"),
                    fire("http://10.66.0.1/"),
                    fire(f"http://127.0.0.2:{local.port}/"),
                ]

            async with running(observing):
                observed = await delivered(cloud, legitimate() + unwanted())
            code, text, err = await run("config", "suggest-egress", env=observing)
            (directory / "agent.toml").write_text(text)
            enforcing = {key: value for key, value in env.items() if not key.startswith("PRESENCE_EGRESS__")}
            async with running(enforcing, "--config", str(directory / "agent.toml")):
                enforced = await delivered(cloud, legitimate() + unwanted())
                never_seen = await delivered(
                    cloud,
                    [
                        fire(f"http://{PUBLIC}:{private.port}/"),
                        fire(public.url(), method="POST", body="x"),
                        fire(f"https://{NAME}:{private.port}/"),
                    ],
                )
        return {
            "observed": observed,
            "suggested": {"code": code, "text": text, "err": err},
            "ports": {"private": private.port, "public": public.port, "local": local.port},
            "enforced": enforced,
            "never_seen": never_seen,
        }


async def silent_name_server() -> Findings:
    """How long the agent takes to stop while a look-up hangs: asked once, and asked twice."""
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((SILENT, 53))
        silent.setblocking(False)
        loop = asyncio.get_running_loop()
        async with ScriptedControlPlane() as cloud:
            env = agent_env(cloud.url, cloud.key, Path(name), PRESENCE_DELIVERY__DNS_TIMEOUT="40")
            env["RES_OPTIONS"] = "timeout:30 attempts:2"
            async with Program("run", env=env) as agent:
                await cloud.fire("http://hanging.corp/")
                await loop.sock_recv(silent, 512)
                agent.signal(signal.SIGTERM)
                await agent.said("draining")
                began = time.monotonic()
                agent.signal(signal.SIGTERM)
                code = await agent.exited()
                return {"code": code, "took": time.monotonic() - began, "log": agent.text()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(globals()[sys.argv[1]]())))
