"""What was seen is kept in a file, and the file becomes a list of rules."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from presence.agent import seen as seen_module
from presence.agent.entries import Claimed
from presence.agent.seen import SEEN, Seen, Sight, read_seen
from presence.domain.delivery import FinalState
from presence.domain.egress import suggest
from presence.domain.outcome import Attempt, Fault, Outcome, Phase, Reason, Refused, Response, TransportFailure
from presence.domain.retry import Settle, Step
from presence.errors import ConfigurationError, PresenceError
from tests.support.requests import claimed

DONE = Settle(FinalState.SUCCEEDED, Reason.DELIVERED)


class Passed(list[tuple[Claimed, Attempt, Step]]):
    """The observer behind."""

    def __call__(self, *what: Any) -> None:
        self.append(what)


def told(seen: Seen, uri: str, address: str | None = "10.0.0.1", outcome: Outcome | None = None, **more: Any) -> None:
    """Tells of one attempt."""
    method = more.pop("method", "GET")
    attempt = Attempt(1, 0, 5, outcome or Response(204), address, **more)
    seen(claimed(uri, method=method, authorization="Bearer canary", subject_id="canary"), attempt, DONE)


async def written(seen: Seen) -> None:
    """Ends the stage; what is new is in the file then."""
    running = asyncio.create_task(seen.run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def content(file: Path) -> str:
    return file.read_text() if file.exists() else ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / SEEN


async def test_what_was_reached_becomes_rules(file: Path) -> None:
    seen = Seen(file, Passed())
    told(seen, "http://Jenkins.corp/{SubjectId}")
    told(seen, "https://jenkins.corp/", method="POST")
    told(seen, "https://jenkins.corp/", method="GET")
    told(seen, "http://10.0.0.7:8080/", "10.0.0.7")
    told(seen, "http://[fd00::1]/", "fd00::1")
    told(seen, "http://localhost:81/", "127.0.0.1")
    await written(seen)
    assert suggest(read_seen(file)) == [
        "GET,POST https://jenkins.corp:443",
        "http://10.0.0.7:8080",
        "http://127.0.0.1:81",
        "http://[fd00::1]:80",
        "http://jenkins.corp:80",
    ]


async def test_a_target_behind_a_proxy_is_known_by_its_name_alone(file: Path) -> None:
    """The address is the proxy's; the target needs a rule of its own to be reached through it."""
    seen = Seen(file, Passed())
    told(seen, "https://jira.corp/", "10.9.9.9", proxy="proxy.corp:3128")
    await written(seen)
    assert suggest(read_seen(file)) == ["https://jira.corp:443"]
    assert "10.9.9.9" not in content(file)


async def test_what_did_not_answer_is_not_remembered(file: Path) -> None:
    passed = Passed()
    seen = Seen(file, passed)
    told(seen, "http://h.corp/", None, Refused(Reason.NOT_ALLOWED))
    told(seen, "http://{SubjectId}/", None, Refused(Reason.TEMPLATE_INVALID))
    told(seen, "http://h.corp/", "10.0.0.1", TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED))
    told(seen, "http://h.corp/", "10.0.0.1", TransportFailure(Phase.FIRST_BYTE, Fault.TIMEOUT, sent=True))
    await written(seen)
    assert (len(passed), os.listdir(file.parent)) == (4, [])


async def test_whatever_the_answer_was_it_is_remembered(file: Path) -> None:
    seen = Seen(file, Passed())
    told(seen, "http://h.corp/", outcome=Response(500))
    await written(seen)
    assert len(read_seen(file)) == 1


async def test_everything_is_passed_on_and_each_target_is_logged_once(file: Path) -> None:
    passed = Passed()
    seen = Seen(file, passed)
    with capture_logs() as lines:
        told(seen, "http://h.corp/{SubjectId}")
        told(seen, "http://h.corp/other", observed=True)
        told(seen, "http://h.corp/", "10.0.0.2", observed=True)
    assert len(passed) == 3
    assert [(line["event"], line["address"], line["only_observed"]) for line in lines] == [
        ("seen", "10.0.0.1", False),
        ("seen", "10.0.0.2", True),
    ]
    await written(seen)
    assert "canary" not in content(file) + str(lines)


async def test_the_stage_writes_as_it_goes(file: Path) -> None:
    seen = Seen(file, Passed())
    running = asyncio.create_task(seen.run())
    for number in range(3):
        told(seen, f"http://h{number}.corp/")
        while content(file).count("corp") <= number:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert os.listdir(file.parent) == [SEEN]


async def test_what_comes_while_it_writes_is_written_in_the_end(file: Path) -> None:
    seen = Seen(file, Passed())
    running = asyncio.create_task(seen.run())
    told(seen, "http://first.corp/")
    await asyncio.sleep(0)  # it has begun to write
    await asyncio.sleep(0)
    told(seen, "http://second.corp/")
    running.cancel()
    await asyncio.wait([running])
    assert len(read_seen(file)) == 2


async def test_what_the_file_holds_is_known_after_a_restart(file: Path) -> None:
    for host in ("a.corp", "b.corp"):
        seen = Seen(file, Passed())
        told(seen, f"http://{host}/")
        await written(seen)
    assert [destination.host for destination, _, _ in read_seen(file)] == ["a.corp", "b.corp"]


async def test_no_more_than_so_many_are_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_module, "MOST", 3)
    seen = Seen(file, Passed())
    for number in range(5):
        told(seen, f"http://h{number}.corp/")
    await written(seen)
    assert len(read_seen(file)) == 3


async def test_a_file_that_cannot_be_written_is_logged_and_no_end(tmp_path: Path) -> None:
    seen = Seen(tmp_path / "absent" / SEEN, Passed())
    with capture_logs() as lines:
        told(seen, "http://h.corp/")
        await written(seen)
    assert [line["event"] for line in lines] == ["seen", "what was seen is not kept"]
    assert lines[1]["reason"] == "No such file or directory"


def test_without_a_file_it_is_said_how_to_get_one(file: Path) -> None:
    with pytest.raises(PresenceError, match=r'nothing was observed yet; set \[egress\] mode = "observe"') as caught:
        read_seen(file)
    assert str(file) in str(caught.value)
    assert not isinstance(caught.value, ConfigurationError)


SIGHT = Sight("http", "h", 80, "GET", "10.0.0.1")._asdict()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b"\xff",
        b"5",
        b"[5]",
        b"[{}]",
        json.dumps([SIGHT | {"more": 1}]).encode(),
        json.dumps([SIGHT | {"address": "nonsense"}]).encode(),
        json.dumps([SIGHT | {"port": "80"}]).encode(),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for read in (read_seen, lambda file: Seen(file, Passed())):
        with pytest.raises(ConfigurationError, match=r"cannot be read .*; remove it to begin anew") as caught:
            read(file)
        assert str(caught.value).startswith(f"{file}: ")
