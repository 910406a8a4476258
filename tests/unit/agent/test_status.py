"""The agent's state, with the stages put together as the daemon does it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from presence.agent.app import Agent
from presence.agent.http import Http
from presence.agent.settings import AgentSettings
from presence.agent.targets import Targets
from presence.clock import SystemClock
from presence.tracing import UNTRACED
from tests.support.clock import ManualClock
from tests.support.journal import opened


@asynccontextmanager
async def agent(directory: Path) -> AsyncIterator[Agent]:
    """Its stages do not run."""
    settings = AgentSettings.model_validate(
        {
            "control_plane": {"url": "wss://presence.example.com", "key": "s3cret-key-0123456789"},
            "journal": {"path": directory / "journal.db"},
        }
    )
    async with (
        opened(directory, ManualClock()) as journal,
        Http(settings.egress.policy(), SystemClock(), 1000, 1024) as http,
    ):
        yield Agent(settings, None, journal, http, Targets(settings), [], UNTRACED)


async def test_a_stage_that_does_not_come_back_in_time_is_named(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        assert await running.status.hanging() == []
        running._intake.pulse.promise(-7)
        assert await running.status.hanging() == ["the stage 'intake' is 7 s late"]
        document = await running.status.document()
        assert (document["live"], document["ready"]) == (False, False)
        running._intake.pulse.promise(60)
        assert await running.status.hanging() == []


async def test_every_stage_gives_its_promise(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        names = {pulse.name for pulse in running.status._parts.pulses}
    lanes = {f"worker-{number}" for number in range(64)}
    assert names - lanes == {"link", "intake", "worker", "reporter", "reporter-mark", "pause", "reload", "tidy"}
    assert lanes <= names


async def test_what_keeps_it_from_being_ready_is_said_in_words(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        assert running.status.unready() == ["not connected: offline"]
        document = await running.status.document()
        assert (document["live"], document["ready"]) == (True, False)
        assert document["faults"] == ["not connected: offline"]
        assert "s3cret" not in str(document)
