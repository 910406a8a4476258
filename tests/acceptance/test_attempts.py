"""What the running agent sends, and does after an attempt: held, gone, asked to wait, methods, authorization."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from presence.domain.delivery import FinalState
from presence.protocol.messages import Cancel, Held, Release, Report
from tests.support.control_plane import ScriptedControlPlane
from tests.support.processes import Program, agent_env
from tests.support.target import NO_CONTENT, Answer, Target, always, hang_up, head, in_turn, silence, status

QUICK = {
    "PRESENCE_DELIVERY__FIRST_BYTE_TIMEOUT": "0.5",
    "PRESENCE_RETRY__MAX_ATTEMPTS": "3",
    "PRESENCE_RETRY__INITIAL": "0.02",
    "PRESENCE_RETRY__MAXIMUM": "5",
}
SECRET = "Bearer c4n4ry-s3cr3t-in-a-header"


@asynccontextmanager
async def running(directory: Path, **settings: str) -> AsyncIterator[tuple[ScriptedControlPlane, Program]]:
    async with ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, directory, **QUICK | settings)
        async with Program("run", env=env) as agent:
            yield cloud, agent


async def delivered(cloud: ScriptedControlPlane, uri: str, **fields: str) -> Report:
    (delivery,) = await cloud.fire(uri, **fields)
    (report,) = await cloud.reported(delivery)
    return report


async def held(cloud: ScriptedControlPlane, delivery: str, attempts: int) -> Held:
    def found() -> Held | None:
        said = [said for said in cloud.heard if isinstance(said, Held)]
        return next((one for one in said if (one.id, one.attempts) == (delivery, attempts)), None)

    message = await cloud.until(found)
    assert message is not None
    return message


class TestHold:
    """`on_unknown = "hold"`: where nobody knows whether the request took effect, a person decides."""

    @pytest.mark.parametrize("answer", [silence, hang_up], ids=["no answer", "connection closed"])
    async def test_no_answer_is_held_and_a_release_attempts_it_again(self, tmp_path: Path, answer: Answer) -> None:
        async with running(tmp_path) as (cloud, _agent), Target(in_turn(answer, always(NO_CONTENT))) as target:
            (delivery,) = await cloud.fire(target.url(), on_unknown="hold")
            message = await held(cloud, delivery, attempts=1)
            assert message.reason == "unknown"
            assert [(entry.phase, entry.unknown) for entry in message.log] == [("first-byte", True)]
            assert delivery not in cloud.reports
            await cloud.say(Release(id=delivery, attempts=1))
            (report,) = await cloud.reported(delivery)
            assert (report.state, report.reason, report.attempts) == (FinalState.SUCCEEDED, "delivered", 2)
            assert [entry.status for entry in report.log] == [None, 204]
            assert len(target.requests) == 2

    async def test_each_unknown_outcome_is_a_decision_of_its_own(self, tmp_path: Path) -> None:
        async with running(tmp_path) as (cloud, _agent), Target(hang_up) as target:
            (delivery,) = await cloud.fire(target.url(), on_unknown="hold")
            await held(cloud, delivery, attempts=1)
            # The answer to another question changes nothing.
            await cloud.say(Release(id=delivery, attempts=0))
            await cloud.say(Release(id=delivery, attempts=7))
            await cloud.canary("after-the-stray-releases")
            await cloud.until(lambda: any(said.type == "canary_echo" for said in cloud.heard))
            assert len(target.requests) == 1
            await cloud.say(Release(id=delivery, attempts=1))
            await held(cloud, delivery, attempts=2)
            assert len(target.requests) == 2

    async def test_a_cancel_ends_it(self, tmp_path: Path) -> None:
        async with running(tmp_path) as (cloud, _agent), Target(silence) as target:
            (delivery,) = await cloud.fire(target.url(), on_unknown="hold")
            await held(cloud, delivery, attempts=1)
            await cloud.say(Cancel(id=delivery))
            (report,) = await cloud.reported(delivery)
            assert (report.state, report.attempts) == (FinalState.CANCELLED, 1)
            assert len(target.requests) == 1

    async def test_what_was_surely_not_sent_is_retried(self, tmp_path: Path) -> None:
        async with Target() as closed:
            pass
        async with running(tmp_path) as (cloud, _agent):
            report = await delivered(cloud, closed.url(), on_unknown="hold")
            assert (report.state, report.reason, report.attempts) == (FinalState.FAILED, "attempts_exhausted", 3)

    async def test_what_was_answered_is_retried(self, tmp_path: Path) -> None:
        async with running(tmp_path) as (cloud, _agent), Target(status(500, 503, 204)) as target:
            report = await delivered(cloud, target.url(), on_unknown="hold")
            assert (report.state, report.attempts) == (FinalState.SUCCEEDED, 3)

    async def test_it_is_said_again_after_a_restart(self, tmp_path: Path) -> None:
        async with ScriptedControlPlane() as cloud, Target(silence) as target:
            env = agent_env(cloud.url, cloud.key, tmp_path, **QUICK)
            async with Program("run", env=env) as agent:
                (delivery,) = await cloud.fire(target.url(), on_unknown="hold")
                await held(cloud, delivery, attempts=1)
                await agent.kill()
            cloud.heard.clear()
            target.answer = status(204)
            async with Program("run", env=env):
                await held(cloud, delivery, attempts=1)
                await cloud.say(Release(id=delivery, attempts=1))
                (report,) = await cloud.reported(delivery)
            assert (report.state, report.attempts) == (FinalState.SUCCEEDED, 2)

    async def test_an_attempt_that_a_kill_interrupted_is_unknown_too(self, tmp_path: Path) -> None:
        async with ScriptedControlPlane() as cloud, Target(silence) as target:
            env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_RETRY__MAX_ATTEMPTS="3")
            async with Program("run", env=env) as agent:
                (delivery,) = await cloud.fire(target.url(), on_unknown="hold")
                await target.received(1)
                await agent.kill()
            async with Program("run", env=env):
                message = await held(cloud, delivery, attempts=1)
            assert [(entry.fault, entry.unknown) for entry in message.log] == [("interrupted", True)]
            assert len(target.requests) == 1


async def test_without_hold_an_unknown_outcome_is_retried(tmp_path: Path) -> None:
    async with running(tmp_path) as (cloud, _agent), Target(in_turn(hang_up, always(NO_CONTENT))) as target:
        report = await delivered(cloud, target.url())
        assert (report.state, report.attempts) == (FinalState.SUCCEEDED, 2)
        assert report.log[0].unknown


@pytest.mark.parametrize(
    ("code", "reason"),
    [(301, "status_final"), (304, "status_final"), (400, "status_final"), (404, "status_final"), (410, "gone")],
)
async def test_these_end_a_delivery(tmp_path: Path, code: int, reason: str) -> None:
    async with running(tmp_path) as (cloud, _agent), Target(status(code)) as target:
        report = await delivered(cloud, target.url())
        assert (report.state, report.reason, report.attempts) == (FinalState.FAILED, reason, 1)
        assert report.log[0].status == code
        assert len(target.requests) == 1


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("Location: http://other.test:8080/secret?token=x\r\n", "other.test"),
        ("Location: /elsewhere\r\n", "here"),
        ("Location: http://\xe4\x01/\r\n", "unreadable"),
        ("", None),
    ],
    ids=["absolute", "relative", "unreadable", "none"],
)
async def test_of_a_redirect_only_the_host_is_told(tmp_path: Path, location: str, told: str | None) -> None:
    answer = always(f"HTTP/1.1 302 X\r\n{location}Content-Length: 0\r\n\r\n".encode())
    async with running(tmp_path) as (cloud, agent), Target(answer) as target:
        report = await delivered(cloud, target.url())
        assert (report.log[0].status, report.log[0].location) == (302, told)
        assert "secret" not in agent.text()


@pytest.mark.parametrize("code", [408, 425, 429, 500, 503, 599])
async def test_these_are_retried_until_the_attempts_are_used_up(tmp_path: Path, code: int) -> None:
    async with running(tmp_path) as (cloud, _agent), Target(status(code)) as target:
        report = await delivered(cloud, target.url())
        assert (report.state, report.reason, report.attempts) == (FinalState.FAILED, "attempts_exhausted", 3)
        assert [entry.status for entry in report.log] == [code] * 3


async def test_what_waits_for_a_host_that_is_down_is_delivered_when_it_is_back(tmp_path: Path) -> None:
    async with Target() as target:
        down = target.url()
    forever = {"PRESENCE_RETRY__MAX_ATTEMPTS": "20", "PRESENCE_RETRY__MAXIMUM": "0.1"}
    async with running(tmp_path, **forever) as (cloud, agent), Target(host="127.0.0.2") as other:
        deliveries = await cloud.fire(down, count=30)
        await agent.said("circuit", state="open")
        assert (await delivered(cloud, other.url())).state is FinalState.SUCCEEDED
        async with Target(port=target.port):
            reports = await cloud.reported(*deliveries)
        assert {report.state for report in reports} == {FinalState.SUCCEEDED}
        # Nothing is sent while it is down, so waiting costs no attempts.
        assert sum(report.attempts for report in reports) < 2 * len(reports)


class TestRetryAfter:
    """A target may ask for a pause, in seconds or with a date; what makes no sense is not heard."""

    async def waited(self, directory: Path, asked: str, **settings: str) -> float:
        """Seconds between the first attempt and the second one."""
        busy = always(f"HTTP/1.1 429 X\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n".encode())
        target = Target(in_turn(busy, always(NO_CONTENT)))
        async with running(directory, **settings) as (cloud, _agent), target:
            report = await delivered(cloud, target.url())
            assert [entry.status for entry in report.log] == [429, 204]
            return target.arrivals[1] - target.arrivals[0]

    async def test_seconds(self, tmp_path: Path) -> None:
        assert 1 <= await self.waited(tmp_path, "1") < 3

    async def test_a_date(self, tmp_path: Path) -> None:
        """By the target's own clock: its Date and the date that it asks for are two seconds apart."""
        now = datetime(2026, 11, 24, tzinfo=UTC)
        date, then = (format_datetime(now + timedelta(seconds=seconds), usegmt=True) for seconds in (0, 2))
        assert 2 <= await self.waited(tmp_path, f"{then}\r\nDate: {date}") < 5

    async def test_no_longer_than_two_hours(self, tmp_path: Path) -> None:
        busy = always(b"HTTP/1.1 503 X\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n")
        async with running(tmp_path) as (cloud, agent), Target(busy) as target:
            await cloud.fire(target.url())
            line = await agent.said("attempt", step="retry")
            assert 7_000_000 <= line["retry_in_ms"] <= 7_200_000

    @pytest.mark.parametrize("asked", ["-5", "soon", "", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 400, "\uff11"])
    async def test_what_makes_no_sense(self, tmp_path: Path, asked: str) -> None:
        assert await self.waited(tmp_path, asked, PRESENCE_RETRY__MAXIMUM="1") < 3


POSTED = {"method": "POST", "body": '{"id": "{SubjectId}"}', "content_type": "application/json"}
POST_ALLOWED = {"PRESENCE_EGRESS__METHODS": '["GET", "POST"]'}


class TestMethods:
    """GET only, unless this agent's administrator allows more."""

    async def test_post_is_refused_by_default(self, tmp_path: Path) -> None:
        async with running(tmp_path) as (cloud, _agent), Target() as target:
            report = await delivered(cloud, target.url(), **POSTED)
            assert (report.state, report.reason) == (FinalState.REFUSED, "method_not_allowed")
            assert target.connections == 0

    async def test_post_is_sent_with_body_and_type_where_it_is_allowed(self, tmp_path: Path) -> None:
        async with running(tmp_path, **POST_ALLOWED) as (cloud, _agent), Target() as target:
            report = await delivered(cloud, target.url("/{SubjectId}"), subject_id="a-1", **POSTED)
            assert report.state is FinalState.SUCCEEDED
            (request,) = target.requests
            line, headers = head(request)
            assert line == "POST /a-1 HTTP/1.1"
            assert request.partition(b"\r\n\r\n")[2] == b'{"id": "a-1"}'
            assert (headers["content-type"], headers["content-length"]) == ("application/json", "13")

    async def test_put_is_not_allowed_with_it(self, tmp_path: Path) -> None:
        async with running(tmp_path, **POST_ALLOWED) as (cloud, _agent), Target() as target:
            report = await delivered(cloud, target.url(), **POSTED | {"method": "PUT"})
            assert (report.state, report.reason) == (FinalState.REFUSED, "method_not_allowed")
            assert target.connections == 0

    @pytest.mark.parametrize("subject", ['a", "admin": true, "x": "', "a\\", 'a"}'])
    async def test_a_value_that_would_break_out_of_the_body_is_refused(self, tmp_path: Path, subject: str) -> None:
        async with running(tmp_path, **POST_ALLOWED) as (cloud, _agent), Target() as target:
            report = await delivered(cloud, target.url("/"), subject_id=subject, **POSTED)
            assert report.state is FinalState.REFUSED
            assert report.reason in {"body_invalid", "subject_invalid"}
            assert target.connections == 0

    async def test_post_is_not_repeated_on_a_fresh_connection(self, tmp_path: Path) -> None:
        once = {"PRESENCE_RETRY__MAX_ATTEMPTS": "1"}
        answers = in_turn(always(NO_CONTENT), hang_up)
        async with running(tmp_path, **POST_ALLOWED | once) as (cloud, _agent), Target(answers) as target:
            await delivered(cloud, target.url(), **POSTED)
            report = await delivered(cloud, target.url(), **POSTED)
            assert (report.log[0].fault, report.log[0].repeated) == ("reset", None)
            assert len(target.requests) == 2


class TestAuthorization:
    """The webhook's secret goes to its target and nowhere else."""

    @pytest.mark.parametrize("answer", [status(204), status(503), status(404), hang_up], ids=["204", "503", "404", "-"])
    async def test_it_is_sent_and_neither_logged_nor_kept(self, tmp_path: Path, answer: Answer) -> None:
        async with running(tmp_path) as (cloud, agent), Target(answer) as target:
            report = await delivered(cloud, target.url(), authorization=SECRET)
            await agent.said("reported", delivery=report.id)
            assert {head(request)[1].get("authorization") for request in target.requests} == {SECRET}
            assert await agent.stop() == 0
            assert SECRET.removeprefix("Bearer ") not in agent.text()
            assert SECRET not in json.dumps(_everything_in(tmp_path / "journal.db"))

    async def test_it_goes_with_a_retry_after_a_kill(self, tmp_path: Path) -> None:
        async with ScriptedControlPlane() as cloud, Target(silence) as target:
            env = agent_env(cloud.url, cloud.key, tmp_path)
            async with Program("run", env=env) as agent:
                (delivery,) = await cloud.fire(target.url(), authorization=SECRET)
                await target.received(1)
                await agent.kill()
            target.answer = status(204)
            async with Program("run", env=env):
                await cloud.reported(delivery)
            assert [head(request)[1]["authorization"] for request in target.requests] == [SECRET] * 2

    async def test_a_refused_one_is_not_kept_either(self, tmp_path: Path) -> None:
        async with running(tmp_path) as (cloud, agent):
            report = await delivered(cloud, "http://169.254.169.254/", authorization=SECRET)
            assert report.state is FinalState.REFUSED
            await agent.said("reported", delivery=report.id)
            assert await agent.stop() == 0
            assert SECRET.removeprefix("Bearer ") not in agent.text()
            assert SECRET not in json.dumps(_everything_in(tmp_path / "journal.db"))


def _everything_in(journal: Path) -> list[list[str]]:
    """Every value of every column of every table."""
    with closing(sqlite3.connect(journal)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [[str(value) for value in row] for table in tables for row in database.execute(f"SELECT * FROM {table}")]
