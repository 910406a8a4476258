"""One attempt: prepare -> send -> classify -> decide. Knows nothing of the journal or the link."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from presence.agent.http import Http, Request
from presence.agent.journal import Claimed
from presence.clock import Clock
from presence.domain.outcome import Attempt, Outcome, Reason, Refused
from presence.domain.retry import RetryPolicy, Step, next_step
from presence.domain.template import TemplateError, parse_template
from presence.domain.webhook import Method

ALLOWED_METHODS = frozenset({Method.GET})


@dataclass(frozen=True, slots=True)
class Deliver:
    """Makes attempts. `headers` go with every request; `jitter` draws from [0, 1)."""

    http: Http
    retry: RetryPolicy
    clock: Clock
    headers: Mapping[str, str]
    jitter: Callable[[], float] = random.random

    async def attempt(self, claimed: Claimed, now: int) -> tuple[Attempt, Step]:
        """Makes the attempt that was claimed at the journal's time `now`, and says what follows from it."""
        started = self.clock.elapsed()
        prepared = self.prepare(claimed)
        outcome: Outcome
        address = None
        if isinstance(prepared, Refused):
            outcome = prepared
        else:
            sent = await self.http.send(prepared)
            outcome, address = sent.outcome, sent.address
        took = self.clock.elapsed() - started
        policy = RetryPolicy(
            self.retry.max_attempts, self.retry.initial, self.retry.maximum, claimed.expires_at - claimed.born_at
        )
        age = now + took - claimed.born_at
        step = next_step(policy, outcome, attempts=claimed.attempts, age=age, jitter=self.jitter())
        return Attempt(claimed.attempts, now, took, outcome, address), step

    def prepare(self, claimed: Claimed) -> Request | Refused:
        """The request, or why there is none."""
        if claimed.method not in ALLOWED_METHODS:
            return Refused(Reason.METHOD_NOT_ALLOWED)
        try:
            template = parse_template(claimed.uri)
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
        headers = {
            **self.headers,
            "webhook-id": claimed.id,
            "webhook-timestamp": str(self.clock.wall() // 1000),
        }
        return Request(claimed.method, uri, template.host, template.port, headers)
