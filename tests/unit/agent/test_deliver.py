"""One attempt from the claimed delivery to the step that follows from it."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from presence.agent.deliver import Deliver, destination_of
from presence.agent.http import Request
from presence.domain.delivery import FinalState
from presence.domain.egress import Destination
from presence.domain.outcome import Fault, Phase, Reason, Refused, Response, TransportFailure
from presence.domain.retry import CERTIFICATE_WAIT, Hold, RetryAfter, RetryPolicy, Settle
from presence.domain.template import TemplateError
from tests.support.clock import ManualClock
from tests.support.odd_hosts import closed_port
from tests.support.requests import Table, claimed, client
from tests.support.target import Target, always, hang_up, head, in_turn, silence, status

POLICY = RetryPolicy(max_attempts=3, initial=1000, maximum=8000, deadline=86_400_000)
SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
DELIVERY = "0f8e0f4e-6d6a-4c39-9a5a-7c7f3f1f0c11"


@asynccontextmanager
async def delivering(*tables: Table, headers: dict[str, str] | None = None, **egress: Any) -> AsyncIterator[Deliver]:
    async with client(*tables, egress=egress, first_byte_timeout=0.5) as made:
        yield Deliver(made.http, made.targets, POLICY, ManualClock(), headers or {}, jitter=lambda: 0.5)


class TestPrepare:
    """The request that a delivery becomes, or the reason why it becomes none."""

    async def prepared(self, uri: str, *tables: Table, **fields: Any) -> Request:
        egress = fields.pop("egress", {})
        async with delivering(*tables, headers=fields.pop("headers", None), **egress) as deliver:
            request = deliver.prepare(claimed(uri, **fields))
        assert isinstance(request, Request), request
        return request

    async def refused(self, uri: str, **fields: Any) -> Reason:
        async with delivering() as deliver:
            prepared = deliver.prepare(claimed(uri, **fields))
        assert isinstance(prepared, Refused), prepared
        return prepared.reason

    async def test_every_placeholder_has_its_value(self) -> None:
        uri = "http://h.corp/{SubjectId}/{WebhookId}?d={DeliveryId}&e={Event}"
        request = await self.prepared(uri, subject_id="a b/ü")
        assert request.uri == (
            f"http://h.corp/a%20b%2F%C3%BC/5b9f7a54-4d5c-4a68-8d5f-1c7a63f3a0aa?d={DELIVERY}&e=ScanExecutionCompleted"
        )
        assert (request.method, request.body) == ("GET", None)
        assert request.destination == Destination("http", "h.corp", 80)

    async def test_the_headers_are_those_of_every_delivery(self) -> None:
        request = await self.prepared("http://h.corp/")
        assert request.headers == {"webhook-id": DELIVERY, "webhook-timestamp": "1790000000"}

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
    async def test_the_authorization_goes_with_every_method(self, method: str) -> None:
        request = await self.prepared("http://h.corp/", method=method, authorization="Bearer x")
        assert request.headers["Authorization"] == "Bearer x"

    async def test_what_is_configured_here_wins(self) -> None:
        table = {"host": "h.corp", "headers": {"authorization": "Basic here", "X-Token": "t", "CONTENT-TYPE": "x/y"}}
        fields = {"authorization": "Bearer cloud", "body": "b", "content_type": "text/plain", "method": "POST"}
        request = await self.prepared("http://h.corp/", table, **fields)
        assert request.headers == {
            "webhook-id": DELIVERY,
            "webhook-timestamp": "1790000000",
            "authorization": "Basic here",
            "X-Token": "t",
            "CONTENT-TYPE": "x/y",
        }
        other = await self.prepared("http://other.corp/", table, **fields)
        assert other.headers["Authorization"] == "Bearer cloud"

    async def test_a_header_of_the_command_line_wins_over_all(self) -> None:
        table = {"host": "h.corp", "headers": {"X-Token": "t"}}
        fields = {"headers": {"X-TOKEN": "mine", "X-More": "m"}, "authorization": "Bearer cloud"}
        request = await self.prepared("http://h.corp/", table, **fields)
        named = [name.lower() for name in request.headers]
        assert sorted(named) == ["authorization", "webhook-id", "webhook-timestamp", "x-more", "x-token"]
        assert request.headers["X-TOKEN"] == "mine"

    async def test_the_body_has_its_values_and_its_type(self) -> None:
        request = await self.prepared(
            "http://h.corp/", method="POST", body='{"id": "{SubjectId}", "ü": 1}', content_type="application/json"
        )
        assert request.body == f'{{"id": "{SUBJECT}", "ü": 1}}'.encode()
        assert request.headers["Content-Type"] == "application/json"

    async def test_a_body_without_a_type_has_none(self) -> None:
        request = await self.prepared("http://h.corp/", method="PUT", body="{Event}")
        assert (request.body, "Content-Type" in request.headers) == (b"ScanExecutionCompleted", False)

    async def test_a_type_without_a_body_is_not_sent(self) -> None:
        request = await self.prepared("http://h.corp/", method="POST", content_type="text/plain")
        assert (request.body, "Content-Type" in request.headers) == (None, False)

    async def test_a_path_is_decided_on_where_a_rule_has_one(self) -> None:
        uri = "https://h.corp:8443/a/{SubjectId}/%2f?x=/y"
        without = await self.prepared(uri)
        assert without.destination == Destination("https", "h.corp", 8443, "/", encoded_slash=True)
        request = await self.prepared(uri, egress={"deny": ["other.corp/x"]})
        assert request.destination == replace(without.destination, path=f"/a/{SUBJECT}/%2f")

    @pytest.mark.parametrize(
        ("method", "on_unknown", "repeatable"),
        [("GET", "fire", True), ("GET", "hold", False), ("POST", "fire", False), ("PUT", "fire", False)],
    )
    async def test_what_may_be_repeated(self, method: str, on_unknown: str, repeatable: bool) -> None:
        request = await self.prepared("http://h.corp/", method=method, on_unknown=on_unknown)
        assert request.repeatable is repeatable

    @pytest.mark.parametrize(
        "uri",
        [
            *("", "h.corp", "ftp://h.corp/", "http://{SubjectId}/", "http://h.corp:{SubjectId}/", "http://u@h.corp/"),
            *("http://h.corp/{Subject}", "http://h.corp/{SubjectId", "http://h.corp/{+SubjectId}", "http://0x7f.1/"),
            *("http://h.corp/#x", "http://h.corp/\\x", "http://h.corp/a/../b", "http://h.corp/ü", "http://h\r\n/"),
        ],
    )
    async def test_no_template(self, uri: str) -> None:
        assert await self.refused(uri) is Reason.TEMPLATE_INVALID

    @pytest.mark.parametrize("subject", ["", ".", "..", "a\r\nb", "\0", "x" * 257, "\ud800"])
    async def test_no_subject(self, subject: str) -> None:
        assert await self.refused("http://h.corp/{SubjectId}", subject_id=subject) is Reason.SUBJECT_INVALID

    @pytest.mark.parametrize(
        ("uri", "subject"), [("http://h.corp/%2E{SubjectId}", "."), ("http://h.corp/{SubjectId}", "a\\b")]
    )
    async def test_a_subject_that_means_something_in_its_place(self, uri: str, subject: str) -> None:
        assert await self.refused(uri, subject_id=subject) is Reason.SUBJECT_INVALID

    @pytest.mark.parametrize(
        "fields",
        [
            {"body": '{"id": "{SubjectId}"}', "content_type": "application/json", "subject_id": '"'},
            {"body": "{SubjectId}", "content_type": "application/json"},
            {"body": "no json", "content_type": "application/json"},
            {"body": "x", "content_type": "no type"},
            {"body": "x", "content_type": "text/plain\r\nX-Evil: 1"},
            {"body": "x" * 8193, "content_type": "text/plain"},
            {"body": "x", "method": "GET"},
        ],
        ids=["a quote", "outside of a string", "no JSON", "no type", "a line break", "too long", "GET"],
    )
    async def test_no_body(self, fields: dict[str, str]) -> None:
        assert await self.refused("http://h.corp/", **{"method": "POST", **fields}) is Reason.BODY_INVALID


class TestAttempt:
    """Sent, classified, decided."""

    async def test_a_success(self) -> None:
        async with delivering() as deliver, Target() as target:
            attempt, step = await deliver.attempt(claimed(target.url(), attempts=2), 77)
            assert (attempt.number, attempt.at, attempt.outcome) == (2, 77, Response(204))
            assert (attempt.address, attempt.proxy, attempt.repeated) == ("127.0.0.1", None, False)
            assert attempt.phases.keys() >= {Phase.CONNECT, Phase.FIRST_BYTE}
            assert step == Settle(FinalState.SUCCEEDED, Reason.DELIVERED)
            line, headers = head(target.requests[0])
            assert line == f"GET /ScanEnded/{SUBJECT} HTTP/1.1"
            assert headers["webhook-id"] == DELIVERY

    @pytest.mark.parametrize(
        ("code", "step"),
        [
            (404, Settle(FinalState.FAILED, Reason.STATUS_FINAL)),
            (410, Settle(FinalState.FAILED, Reason.GONE)),
            (301, Settle(FinalState.FAILED, Reason.STATUS_FINAL)),
            (503, RetryAfter(625)),
        ],
    )
    async def test_what_follows_a_status(self, code: int, step: Settle | RetryAfter) -> None:
        async with delivering() as deliver, Target(status(code)) as target:
            assert (await deliver.attempt(claimed(target.url()), 0))[1] == step

    async def test_what_the_target_asks_for_is_kept(self) -> None:
        busy = always(b"HTTP/1.1 429 X\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n")
        async with delivering() as deliver, Target(busy) as target:
            assert (await deliver.attempt(claimed(target.url()), 0))[1] == RetryAfter(60_000)

    async def test_what_the_policy_refuses_is_final_and_sends_nothing(self) -> None:
        async with delivering(allow=[]) as deliver, Target() as target:
            attempt, step = await deliver.attempt(claimed(target.url()), 0)
            assert attempt.outcome == Refused(Reason.DENIED_LOOPBACK)
            assert step == Settle(FinalState.REFUSED, Reason.DENIED_LOOPBACK)
            assert target.connections == 0

    async def test_what_cannot_be_prepared_is_final(self) -> None:
        async with delivering() as deliver:
            attempt, step = await deliver.attempt(claimed("http://{SubjectId}/"), 0)
            assert (attempt.outcome, attempt.address) == (Refused(Reason.TEMPLATE_INVALID), None)
            assert step == Settle(FinalState.REFUSED, Reason.TEMPLATE_INVALID)

    @pytest.mark.parametrize(
        ("on_unknown", "step"), [("fire", RetryAfter(625)), ("hold", Hold(Reason.UNKNOWN))], ids=["fire", "hold"]
    )
    @pytest.mark.parametrize("answer", [silence, hang_up], ids=["silence", "FIN"])
    async def test_what_follows_when_nobody_knows(self, answer: Any, on_unknown: str, step: object) -> None:
        async with delivering() as deliver, Target(answer) as target:
            attempt, found = await deliver.attempt(claimed(target.url(), on_unknown=on_unknown), 0)
            assert isinstance(attempt.outcome, TransportFailure)
            assert (attempt.outcome.sent, found) == (True, step)

    async def test_what_was_surely_not_sent_is_retried_also_where_it_would_be_held(self) -> None:
        async with delivering() as deliver:
            uri = f"http://127.0.0.1:{closed_port()}/"
            _, step = await deliver.attempt(claimed(uri, on_unknown="hold"), 0)
            assert step == RetryAfter(625)

    async def test_a_certificate_is_looked_at_again_later(self) -> None:
        import trustme

        from tests.support.tls import server_context

        async with delivering() as deliver:
            async with Target(tls=server_context(trustme.CA().issue_cert("127.0.0.1"))) as target:
                attempt, step = await deliver.attempt(claimed(target.url()), 0)
            assert attempt.outcome == TransportFailure(Phase.TLS, Fault.CERTIFICATE_UNTRUSTED)
            assert step == RetryAfter(CERTIFICATE_WAIT)

    @pytest.mark.parametrize(
        ("fields", "now", "reason"),
        [
            ({"attempts": 3}, 0, Reason.ATTEMPTS_EXHAUSTED),
            ({"expires_at": 10_000}, 9_500, Reason.TOO_OLD),
            ({"born_at": -50_000, "expires_at": 0}, -100, Reason.TOO_OLD),
        ],
    )
    async def test_its_attempts_and_its_age_are_bounded(self, fields: dict[str, int], now: int, reason: Reason) -> None:
        async with delivering() as deliver, Target(status(503)) as target:
            _, step = await deliver.attempt(claimed(target.url(), **fields), now)
            assert step == Settle(FinalState.FAILED, reason)

    async def test_a_post_arrives_with_its_body_where_a_rule_allows_it(self) -> None:
        fields = {"method": "POST", "body": "{SubjectId}", "content_type": "text/plain", "authorization": "Bearer x"}
        async with Target() as target:
            async with delivering(allow=["GET,POST 127.0.0.1"]) as deliver:
                assert (await deliver.attempt(claimed(target.url(), **fields), 0))[0].outcome == Response(204)
            async with delivering() as deliver:
                attempt, _ = await deliver.attempt(claimed(target.url(), **fields), 0)
                assert attempt.outcome == Refused(Reason.METHOD_NOT_ALLOWED)
            (request,) = target.requests
            line, headers = head(request)
            assert (line, request.endswith(f"\r\n\r\n{SUBJECT}".encode())) == (
                f"POST /ScanEnded/{SUBJECT} HTTP/1.1",
                True,
            )
            assert (headers["content-type"], headers["authorization"]) == ("text/plain", "Bearer x")

    async def test_a_path_that_a_rule_denies_is_refused_for_the_subject_that_makes_it(self) -> None:
        async with delivering(deny=["127.0.0.1/job/secret"]) as deliver, Target() as target:
            uri = target.url("/job/{SubjectId}")
            assert (await deliver.attempt(claimed(uri, subject_id="open"), 0))[0].outcome == Response(204)
            for subject in ("secret", "SECRET", "secret;a=b"):
                attempt, _ = await deliver.attempt(claimed(uri, subject_id=subject), 0)
                assert attempt.outcome == Refused(Reason.DENIED_BY_RULE)
            assert len(target.requests) == 1

    async def test_the_proxy_is_named_also_where_it_is_refused(self) -> None:
        async with Target() as proxy:
            table = {"host": "*.corp", "proxy": proxy.url(""), "proxy_resolves": True}
            async with delivering(table, allow=["h.corp", "127.0.0.1"]) as deliver:
                passed, _ = await deliver.attempt(claimed("http://h.corp/"), 0)
                refused, _ = await deliver.attempt(claimed("http://other.corp/"), 0)
        assert (passed.outcome, passed.address) == (Response(204), "127.0.0.1")
        assert refused.outcome == Refused(Reason.PROXY_NEEDS_RULE)
        assert passed.proxy == refused.proxy == f"127.0.0.1:{proxy.port}"

    async def test_a_repeat_is_recorded(self) -> None:
        async with delivering() as deliver, Target(in_turn(status(204), hang_up, status(204))) as target:
            first, _ = await deliver.attempt(claimed(target.url()), 0)
            second, _ = await deliver.attempt(claimed(target.url()), 0)
            assert (first.repeated, second.repeated, second.outcome) == (False, True, Response(204))

    async def test_a_header_from_a_file_reaches_the_target_and_nothing_else(self, tmp_path: Path) -> None:
        secret = hashlib.sha256(b"canary").hexdigest()
        (tmp_path / "token").write_text(f"{secret}\n")
        async with Target() as target:
            table = {"host": "127.0.0.1", "headers": {"X-Token": {"file": str(tmp_path / "token")}}}
            async with delivering(table) as deliver:
                attempt, _ = await deliver.attempt(claimed(target.url()), 0)
                assert head(target.requests[0])[1]["x-token"] == secret
                assert secret not in repr(attempt) + repr(deliver)

    async def test_a_defect_of_ours_is_a_failed_attempt_that_is_logged(self) -> None:
        async with delivering(headers={"X-Broken": "a\r\nb"}) as deliver, Target() as target:
            with capture_logs() as lines:
                attempt, step = await deliver.attempt(claimed(target.url()), 0)
            assert attempt.outcome == TransportFailure(Phase.POLICY, Fault.AGENT_DEFECT, sent=True)
            assert isinstance(step, RetryAfter)
            assert [line["log_level"] for line in lines] == ["error"]
            assert target.requests == []


def test_the_destination_of_a_template() -> None:
    assert destination_of("HTTPS://Jenkins.corp/a%2Fb/{SubjectId}") == Destination(
        "https", "jenkins.corp", 443, encoded_slash=True
    )
    with pytest.raises(TemplateError):
        destination_of("nowhere")
