"""One delivery for the command line: what it does, and what it says it would do."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import trustme

from presence.agent.entries import Claimed
from presence.agent.settings import AgentSettings
from presence.agent.testfire import EVENT, Explanation, Shot, Verdict, explain, fire
from presence.domain.delivery import FinalState
from presence.domain.outcome import Attempt, Phase, Reason
from presence.domain.retry import RetryAfter, Step
from presence.domain.webhook import DEFAULT_MAX_AGE_SECONDS
from tests.support.names import name_hosts
from tests.support.odd_hosts import closed_port
from tests.support.requests import Table
from tests.support.target import Target, hang_up, head, status
from tests.support.tls import authority_file, server_context

SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
HIDDEN = "Bearer canary-secret"


def settings(*tables: Table, retry: Table | None = None, delivery: Table | None = None, **egress: Any) -> AgentSettings:
    sections = {
        "targets": tables,
        "egress": {"allow": ["127.0.0.0/8", "::1"]} | egress,
        "retry": {"max_attempts": 3, "initial": 0.01, "maximum": 0.02} | (retry or {}),
        "delivery": delivery or {},
    }
    return AgentSettings.model_validate(sections)


class Seen(list[tuple[Attempt, Step]]):
    def __call__(self, _claimed: Claimed, attempt: Attempt, step: Step) -> None:
        self.append((attempt, step))


class TestShot:
    """What is to be fired becomes a fire like any other."""

    def test_it_has_an_id_of_its_own_and_the_default_age(self) -> None:
        shot = Shot("http://h/", SUBJECT, "POST", "b", "text/plain")
        one, other = shot.as_fire(), shot.as_fire()
        assert one.id != other.id
        assert (one.uri, one.subject_id, one.method, one.body, one.content_type) == (
            "http://h/", SUBJECT, "POST", "b", "text/plain",
        )  # fmt: skip
        assert (one.event, one.max_age) == (EVENT, DEFAULT_MAX_AGE_SECONDS * 1000)

    def test_its_repr_shows_no_header(self) -> None:
        assert "canary" not in repr(Shot("http://h/", SUBJECT, headers={"Authorization": HIDDEN}))


class TestFire:
    """The daemon's own code, with a journal that is thrown away."""

    async def test_every_attempt_is_told_and_then_how_it_ended(self) -> None:
        seen = Seen()
        async with Target(status(503, 503, 204)) as target:
            ended = await fire(settings(), Shot(target.url(), SUBJECT, headers={"X-One": "1"}), seen)
            assert (ended.state, ended.attempts) == (FinalState.SUCCEEDED, 3)
            assert [entry["status"] for entry in ended.log] == [503, 503, 204]
            assert [attempt.number for attempt, _ in seen] == [1, 2, 3]
            assert isinstance(seen[0][1], RetryAfter)
            assert seen[0][0].phases.keys() >= {Phase.DNS, Phase.CONNECT, Phase.FIRST_BYTE}
            headers = [head(request)[1] for request in target.requests]
            assert {each["x-one"] for each in headers} == {"1"}
            assert len({each["webhook-id"] for each in headers}) == 1

    async def test_a_body_goes_along_where_the_method_is_allowed(self) -> None:
        async with Target() as target:
            shot = Shot(target.url(), SUBJECT, "POST", '{"id": "{SubjectId}"}', "application/json")
            assert (await fire(settings(), shot, Seen())).reason == Reason.METHOD_NOT_ALLOWED
            ended = await fire(settings(methods=["POST"]), shot, Seen())
            assert ended.state is FinalState.SUCCEEDED
            (request,) = target.requests
            assert request.endswith(b'{"id": "%s"}' % SUBJECT.encode())

    async def test_it_gives_up_as_the_settings_say(self) -> None:
        seen = Seen()
        shot = Shot(f"http://127.0.0.1:{closed_port()}/", SUBJECT)
        ended = await fire(settings(retry={"max_attempts": 2}), shot, seen)
        assert (ended.state, ended.reason, len(seen)) == (FinalState.FAILED, "attempts_exhausted", 2)

    async def test_a_connection_that_breaks_is_tried_again(self) -> None:
        async with Target(hang_up) as target:
            ended = await fire(settings(retry={"max_attempts": 4}), Shot(target.url(), SUBJECT), Seen())
            assert (ended.state, len(target.requests)) == (FinalState.FAILED, 4)

    async def test_a_refusal_sends_nothing(self) -> None:
        async with Target() as target:
            ended = await fire(settings(allow=[]), Shot(target.url(), SUBJECT), Seen())
            assert (ended.state, ended.reason) == (FinalState.REFUSED, "denied_loopback")
            assert target.connections == 0

    async def test_nothing_is_left_on_the_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
        async with Target() as target:
            await fire(settings(), Shot(target.url(), SUBJECT), Seen())
        assert os.listdir(tmp_path) == []


class TestExplain:
    """What would be done, with nothing sent."""

    async def explained(self, uri: str, *tables: Table, shot: Table | None = None, **egress: Any) -> Explanation:
        return await explain(settings(*tables, **egress), Shot(uri, **({"subject_id": SUBJECT} | (shot or {}))))

    async def test_the_request_and_why_it_would_be_sent(self) -> None:
        async with Target() as target:
            found = await self.explained(
                target.url(), {"host": "127.0.0.1", "headers": {"X-Token": HIDDEN}}, shot={"headers": {"X-Own": HIDDEN}}
            )
            assert found.uri == target.url(f"/ScanEnded/{SUBJECT}")
            assert (found.method, found.host, found.port) == ("GET", "127.0.0.1", target.port)
            assert found.headers == ("X-Own", "X-Token", "webhook-id", "webhook-timestamp")
            assert found.verdicts == (Verdict("127.0.0.1", True, "allow rule '127.0.0.0/8'"),)
            assert (found.refused, found.fault, found.proxy, found.trust) == (None, None, None, None)
            assert "canary" not in repr(found)
            assert target.connections == 0

    async def test_a_verdict_for_each_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name_hosts(monkeypatch, {"h.corp": ("10.0.0.1", "169.254.169.254", "8.8.8.8", "127.0.0.1", "100.64.0.1")})
        found = await self.explained("http://h.corp/{SubjectId}", allow=["100.64.0.0/10"])
        assert found.refused is Reason.DENIED_ALWAYS
        assert found.verdicts == (
            Verdict("10.0.0.1", True, "private address"),
            Verdict("169.254.169.254", False, "denied_always"),
            Verdict("8.8.8.8", False, "not_allowed"),
            Verdict("127.0.0.1", False, "denied_loopback"),
            Verdict("100.64.0.1", True, "allow rule '100.64.0.0/10'"),
        )

    async def test_what_only_observing_lets_pass(self) -> None:
        found = await self.explained("http://8.8.8.8/", mode="observe")
        assert (found.refused, found.verdicts) == (None, (Verdict("8.8.8.8", True, "only mode = observe"),))

    @pytest.mark.parametrize(
        ("uri", "egress", "reason"),
        [
            ("http://10.0.0.1/", {"default": "deny"}, Reason.NOT_ALLOWED),
            ("http://10.0.0.1/", {"deny": ["10.0.0.0/8"]}, Reason.DENIED_BY_RULE),
            ("http://10.0.0.1/%2f", {"deny": ["10.0.0.1/private"]}, Reason.PATH_AMBIGUOUS),
            ("http://[::ffff:10.0.0.1]/", {}, Reason.DENIED_ALWAYS),
        ],
    )
    async def test_why_it_would_be_refused(self, uri: str, egress: Table, reason: Reason) -> None:
        assert (await self.explained(uri, **egress)).refused is reason

    async def test_what_the_subject_and_the_body_make_of_it(self) -> None:
        shot = {"subject_id": "a\\b"}
        found = await self.explained("http://10.0.0.1/{SubjectId}", shot=shot)
        assert (found.refused, found.uri, found.verdicts) == (Reason.SUBJECT_INVALID, None, ())
        body = {"subject_id": '"', "method": "POST", "body": '"{SubjectId}"', "content_type": "application/json"}
        assert (await self.explained("http://10.0.0.1/", shot=body)).refused is Reason.BODY_INVALID

    async def test_the_body_as_it_would_be_sent(self) -> None:
        shot = {"method": "PUT", "body": "ü {SubjectId}", "content_type": "text/plain"}
        found = await self.explained("http://10.0.0.1/", shot=shot, methods=["PUT"])
        assert (found.body, found.refused) == (f"ü {SUBJECT}", None)
        assert "Content-Type" in found.headers

    async def test_a_name_that_does_not_resolve(self) -> None:
        found = await self.explained("http://nowhere.invalid/")
        assert (found.refused, found.verdicts) == (None, ())
        assert found.fault is not None
        assert found.fault.startswith("nowhere.invalid: ")

    async def test_the_authorities_that_are_trusted(self, tmp_path: Path) -> None:
        ca = trustme.CA()
        table = {"host": "10.0.0.1", "ca_file": authority_file(ca, tmp_path)}
        found = await self.explained("https://10.0.0.1/", table)
        assert found.trust == f"the system's authorities and {table['ca_file']}"
        assert (await self.explained("http://10.0.0.1/", table)).trust is None

    async def test_the_proxy_and_what_is_said_about_both(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name_hosts(monkeypatch, {"h.corp": ("10.0.0.1",), "proxy.corp": ("10.9.9.9", "10.9.9.8")})
        table = {"host": "*.corp", "proxy": "http://proxy.corp:3128"}
        refused = await self.explained("http://h.corp/", table)
        assert (refused.refused, refused.proxy) == (Reason.PROXY_NEEDS_RULE, "proxy.corp:3128")
        allowed = await self.explained("http://h.corp/", table, allow=["h.corp"])
        assert (allowed.refused, allowed.fault) == (None, None)
        assert allowed.verdicts == (Verdict("10.0.0.1", True, "allow rule 'h.corp'"),)
        assert allowed.proxy_verdicts == tuple(
            Verdict(address, True, "configured proxy") for address in ("10.9.9.9", "10.9.9.8")
        )
        denied = await self.explained("http://h.corp/", table, allow=["h.corp"], deny=["10.9.9.8"])
        assert denied.refused is Reason.DENIED_BY_RULE
        assert denied.proxy_verdicts[1] == Verdict("10.9.9.8", False, "denied_by_rule")

    async def test_a_target_that_only_the_proxy_resolves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: Any, **__: Any) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        table = {"host": "*.corp", "proxy": "http://10.9.9.9:3128"}
        assert (await self.explained("http://h.corp/", table, allow=["h.corp"])).refused is Reason.PROXY_UNRESOLVED
        found = await self.explained("http://h.corp/", table | {"proxy_resolves": True}, allow=["h.corp"])
        assert (found.refused, found.fault, found.verdicts) == (None, None, ())

    @pytest.mark.parametrize("error", [socket.EAI_NONAME, socket.EAI_AGAIN], ids=["no such name", "no answer now"])
    async def test_a_target_that_the_proxy_does_not_resolve_is_told_as_firing_meets_it(
        self, monkeypatch: pytest.MonkeyPatch, error: int
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise socket.gaierror(error, "the resolver's words")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        table = {"host": "*.corp", "proxy": "http://10.9.9.9:3128"}
        found = await self.explained("http://h.corp/", table, allow=["h.corp"])
        given = settings(table, retry={"max_attempts": 1}, allow=["h.corp"])
        ended = await fire(given, Shot("http://h.corp/", SUBJECT), Seen())
        if error == socket.EAI_NONAME:
            assert (found.refused, found.fault) == (Reason.PROXY_UNRESOLVED, None)
            assert ended.reason == "proxy_unresolved"
        else:
            assert (found.refused, found.fault) == (None, "h.corp: the resolver's words")
            assert ended.log[0]["fault"] == "name_unknown"

    async def test_a_proxy_that_does_not_resolve(self) -> None:
        table = {"host": "10.0.0.1", "proxy": "http://nowhere.invalid:3128"}
        found = await self.explained("http://10.0.0.1/", table, allow=["10.0.0.1"])
        assert found.fault is not None
        assert found.fault.startswith("nowhere.invalid: ")
        assert (found.refused, found.proxy_verdicts) == (None, ())

    async def test_the_longest_waits_between_the_attempts(self) -> None:
        retry = {"max_attempts": 5, "initial": 1, "maximum": 5}
        found = await explain(settings(retry=retry), Shot("http://10.0.0.1/", SUBJECT))
        assert found.longest_waits == (1.0, 2.0, 4.0, 5.0)

    @pytest.mark.parametrize("uri", ["http://10.0.0.1/", "http://8.8.8.8/", "http://169.254.169.254/"])
    async def test_it_says_what_firing_does(self, uri: str) -> None:
        given = settings(retry={"max_attempts": 1}, delivery={"connect_timeout": 0.05}, default="deny")
        explained = await explain(given, Shot(uri, SUBJECT))
        ended = await fire(given, Shot(uri, SUBJECT), Seen())
        assert explained.refused is not None
        assert (ended.state, ended.reason) == (FinalState.REFUSED, explained.refused.value)


async def test_a_target_with_an_authority_of_its_own_is_reached(tmp_path: Path) -> None:
    ca = trustme.CA()
    async with Target(tls=server_context(ca.issue_cert("localhost"))) as target:
        table = {"host": "localhost", "ca_file": authority_file(ca, tmp_path)}
        uri = f"https://localhost:{target.port}/"
        assert (await fire(settings(table), Shot(uri, SUBJECT), Seen())).state is FinalState.SUCCEEDED
        ended = await fire(settings(retry={"max_attempts": 1}), Shot(uri, SUBJECT), Seen())
        assert ended.log[0]["fault"] == "certificate_untrusted"
        assert ended.log[0]["hint"] == "add_ca_file"
