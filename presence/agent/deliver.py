"""One attempt: prepare -> send -> classify -> decide. Knows nothing of the journal or the link."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from presence.agent.entries import Claimed, host_of
from presence.agent.http import Http, Request, Sent
from presence.agent.targets import Targets
from presence.clock import Clock
from presence.domain.body import check_content_type, expand_body
from presence.domain.egress import Destination
from presence.domain.outcome import Attempt, Fault, Phase, Reason, Refused, Response, TransportFailure
from presence.domain.retry import DELIVERED, RetryPolicy, Step, name_of, next_step
from presence.domain.template import TemplateError, UriTemplate, parse_template, path_of
from presence.domain.webhook import Method, OnUnknown
from presence.logs import get_logger
from presence.tracing import Kind, Span, Spans

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deliver:
    """Makes attempts. `headers` go with every request; `jitter` draws from [0, 1); `spans`: one for each."""

    http: Http
    targets: Targets
    retry: RetryPolicy
    clock: Clock
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    jitter: Callable[[], float] = random.random
    spans: Spans | None = None

    async def attempt(self, claimed: Claimed, now: int) -> tuple[Attempt, Step]:
        """Makes the attempt that was claimed at the journal's time `now`, and says what follows from it."""
        span = None if self.spans is None else self.spans.begin("attempt", Kind.CLIENT, claimed.traceparent)
        started = self.clock.elapsed()
        prepared = self.prepare(claimed)
        proxy = None
        if isinstance(prepared, Refused):
            sent = Sent(prepared, None, {}, repeated=False, observed=False)
        else:
            proxy = prepared.options.proxy
            try:
                sent = await self.http.send(prepared)
            except Exception:
                # Whatever a target does, it must not end the daemon, nor do so again after each restart.
                log.exception("attempt failed by a defect of the agent", delivery=claimed.id)
                failure = TransportFailure(Phase.POLICY, Fault.AGENT_DEFECT, sent=True)
                sent = Sent(failure, None, {}, repeated=False, observed=False)
        took = self.clock.elapsed() - started
        attempt = Attempt(
            claimed.attempts,
            now,
            took,
            sent.outcome,
            sent.address,
            sent.phases,
            f"{proxy.host}:{proxy.port}" if proxy is not None else None,
            sent.repeated,
            sent.observed,
        )
        step = self._next_step(claimed, attempt)
        if span is not None:
            _end(span, claimed, attempt, step)
        return attempt, step

    def _next_step(self, claimed: Claimed, attempt: Attempt) -> Step:
        return next_step(
            _until(self.retry, claimed.expires_at - claimed.born_at),
            attempt.outcome,
            attempts=claimed.attempts,
            age=attempt.at + attempt.took - claimed.born_at,
            jitter=self.jitter(),
            on_unknown=OnUnknown(claimed.on_unknown),
        )

    def prepare(self, claimed: Claimed) -> Request | Refused:
        """The request, or why there is none."""
        try:
            template, destination = _parse(claimed.uri)
        except TemplateError:
            return Refused(Reason.TEMPLATE_INVALID)
        values = {
            "SubjectId": claimed.subject_id,
            "WebhookId": claimed.webhook_id,
            "DeliveryId": claimed.id,
            "Event": claimed.event,
        }
        try:
            uri = template.expand(values)
        except TemplateError:
            return Refused(Reason.SUBJECT_INVALID)
        try:
            body = self._body(claimed, values)
        except TemplateError:
            return Refused(Reason.BODY_INVALID)
        if self.http.uses_paths:
            destination = replace(destination, path=path_of(uri))
        options = self.targets.of(template.host, template.port, template.scheme)
        repeatable = claimed.method == "GET" and claimed.on_unknown == OnUnknown.FIRE
        return Request(
            claimed.method, uri, destination, self._headers(claimed, options.headers), body, options, repeatable
        )

    def _headers(self, claimed: Claimed, local: Mapping[str, str]) -> dict[str, str]:
        """What is configured here wins over what the webhook brings."""
        headers = {"webhook-id": claimed.id, "webhook-timestamp": str(self.clock.wall() // 1000)}
        if claimed.authorization is not None:
            headers["Authorization"] = claimed.authorization
        if claimed.content_type is not None and claimed.body is not None:
            headers["Content-Type"] = claimed.content_type
        for ours in filter(None, (local, self.headers)):
            named = {name.lower() for name in ours}
            headers = {name: value for name, value in headers.items() if name.lower() not in named} | {**ours}
        return headers

    @staticmethod
    def _body(claimed: Claimed, values: Mapping[str, str]) -> bytes | None:
        if claimed.body is None:
            return None
        if claimed.method == Method.GET:
            raise TemplateError("a GET has no body: a server that reads none would take it for another request")
        if claimed.content_type is not None:
            check_content_type(claimed.content_type)
        return expand_body(claimed.body, claimed.content_type, values).encode()


def _end(span: Span, claimed: Claimed, attempt: Attempt, step: Step) -> None:
    """Says of the span what the log says of the attempt."""
    outcome = attempt.outcome
    phases = {f"presence__{phase.name.lower()}_ms": took for phase, took in attempt.phases.items()}
    span.end(
        None if step is DELIVERED else attempt.describe(),
        http__request__method=claimed.method,
        http__response__status_code=outcome.status if isinstance(outcome, Response) else None,
        http__request__resend_count=attempt.number - 1 or None,
        server__address=host_of(claimed.uri),
        network__peer__address=attempt.address,
        presence__delivery=claimed.id,
        presence__step=name_of(step),
        **phases,
    )


@lru_cache(maxsize=256)
def _until(policy: RetryPolicy, deadline: int) -> RetryPolicy:
    """The policy for a delivery that is too old `deadline` milliseconds after its event."""
    return replace(policy, deadline=deadline)


@lru_cache(maxsize=4096)
def _parse(uri: str) -> tuple[UriTemplate, Destination]:
    template = parse_template(uri)
    return template, Destination(
        template.scheme, template.host, template.port, encoded_slash=template.has_encoded_slash
    )


def destination_of(uri: str) -> Destination:
    """Where a delivery of that URI template goes, without its path. Raises TemplateError."""
    return _parse(uri)[1]
