"""The messages, as frozen values. What each means and when it may be said: the package's docstring."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints

from presence.domain.delivery import FinalState
from presence.domain.events import MAX_SUBJECT_LENGTH
from presence.domain.ids import UUID_PATTERN
from presence.domain.trace import TRACEPARENT_PATTERN
from presence.domain.webhook import (
    MAX_AUTHORIZATION_LENGTH,
    MAX_BODY_LENGTH,
    MAX_CONTENT_TYPE_LENGTH,
    MAX_URI_LENGTH,
)

Uuid = Annotated[str, StringConstraints(pattern=UUID_PATTERN, max_length=36)]
Milliseconds = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:\-]*$", max_length=64)]
Text = Annotated[str, StringConstraints(max_length=256)]
HostText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:\[\]\-]*$", max_length=270)]
"""A host, perhaps with a port: nothing that could carry more than a name."""
HeaderText = Annotated[str, StringConstraints(max_length=MAX_AUTHORIZATION_LENGTH, pattern=r"^[\x20-\x7e]*$")]
Ids = Annotated[tuple[Uuid, ...], Field(max_length=5000), FailFast()]
Log = Annotated[tuple["AttemptRecord", ...], Field(max_length=64), FailFast()]


class Message(BaseModel):
    """Common to all: immutable, unknown fields ignored, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Hello(Message):
    """`credit`: deliveries that the agent takes whose first attempt was not made. `epoch` grows with every connection.

    `run` names this run of the program: two runs that take turns under one instance are two hosts with one journal.
    """

    type: Literal["hello"] = "hello"
    versions: Annotated[tuple[Count, ...], Field(min_length=1, max_length=16)]
    instance: Uuid
    epoch: Count
    run: Uuid
    credit: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    agent_version: Token
    host: Text = ""
    platform: Token = ""


class Holding(Message):
    """Ids that the agent accepted and whose report is not acknowledged. `unattempted`: those that use credit still."""

    type: Literal["holding"] = "holding"
    ids: Ids
    unattempted: Ids = ()


class Stated(Message):
    """All that the agent holds was stated."""

    type: Literal["stated"] = "stated"


class Ready(Message):
    type: Literal["ready"] = "ready"


class Attempted(Message):
    """The first attempts of these were made, and they wait for another: they use no credit any more."""

    type: Literal["attempted"] = "attempted"
    ids: Ids


class Accepted(Message):
    type: Literal["accepted"] = "accepted"
    id: Uuid


class Busy(Message):
    type: Literal["busy"] = "busy"
    id: Uuid
    reason: Literal["journal_full", "journal_failed", "memory_full", "host_full", "draining", "paused"]
    retry_in: Milliseconds


class AttemptRecord(Message):
    """One attempt, built from enumerations, numbers and addresses only. `ago`: milliseconds before the report was made.

    `dns` to `body`: milliseconds that the phase took, where it took any. The rest as in `presence.domain.outcome`.
    """

    number: Count
    ago: Milliseconds
    took: Milliseconds
    status: Annotated[int, Field(strict=True, ge=100, le=999)] | None = None
    phase: Token | None = None
    fault: Token | None = None
    reason: Token | None = None
    address: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F.:]*$", max_length=64)] | None = None
    hint: Token | None = None
    location: HostText | None = None
    proxy: HostText | None = None
    unknown: Literal[True] | None = None
    repeated: Literal[True] | None = None
    observed: Literal[True] | None = None
    dns: Milliseconds | None = None
    connect: Milliseconds | None = None
    tls: Milliseconds | None = None
    write: Milliseconds | None = None
    first_byte: Milliseconds | None = None
    body: Milliseconds | None = None


class Report(Message):
    """How a delivery ended. `attempts` counts all; `log` holds the first and the latest of them."""

    type: Literal["report"] = "report"
    id: Uuid
    state: FinalState
    reason: Token
    attempts: Count
    settled_ago: Milliseconds
    log: Log = ()


class Held(Message):
    """The delivery waits for a person: its last attempt's outcome is unknown and its webhook says hold.

    Said when it happens and after each Ready for all that wait. `attempts` names the decision that is asked for:
    a `release` that answers it carries the same number.
    """

    type: Literal["held"] = "held"
    id: Uuid
    reason: Token
    attempts: Count
    log: Log = ()


class CanaryEcho(Message):
    type: Literal["canary_echo"] = "canary_echo"
    nonce: Token


class Paused(Message):
    """`remaining`: for how long; absent: until further notice; zero: the pause has ended."""

    type: Literal["paused"] = "paused"
    remaining: Milliseconds | None = None


class Draining(Message):
    type: Literal["draining"] = "draining"


class Welcome(Message):
    """`server_time`: milliseconds since the Unix epoch, to measure the agent's clock offset with."""

    type: Literal["welcome"] = "welcome"
    version: Count
    canary_every: Milliseconds
    lease: Milliseconds
    server_time: Milliseconds


class Reconciled(Message):
    """What the agent stated was looked at, and cancels for what is no longer its own were said: it may go on."""

    type: Literal["reconciled"] = "reconciled"


class Fire(Message):
    """One delivery. `age`: how long ago the event happened; `max_age`: from when on it is not attempted any more.

    `uri` and `body` are templates. `authorization` is a secret: the target's header of that name. `traceparent`: its
    place in a trace (W3C Trace Context); it goes into no request.
    """

    type: Literal["fire"] = "fire"
    id: Uuid
    webhook_id: Uuid
    event: Token
    subject_id: Annotated[str, StringConstraints(max_length=MAX_SUBJECT_LENGTH)]
    uri: Annotated[str, StringConstraints(max_length=MAX_URI_LENGTH)]
    method: Literal["GET", "POST", "PUT"] = "GET"
    body: Annotated[str, StringConstraints(max_length=MAX_BODY_LENGTH)] | None = None
    content_type: Annotated[str, StringConstraints(max_length=MAX_CONTENT_TYPE_LENGTH)] | None = None
    authorization: Annotated[HeaderText | None, Field(repr=False)] = None
    on_unknown: Literal["fire", "hold"] = "fire"
    age: Milliseconds = 0
    max_age: Milliseconds
    traceparent: Annotated[str, StringConstraints(pattern=TRACEPARENT_PATTERN)] | None = None


class Cancel(Message):
    type: Literal["cancel"] = "cancel"
    id: Uuid


class Release(Message):
    """A person decided that a held delivery is to be attempted again; `attempts` as in the `held` it answers."""

    type: Literal["release"] = "release"
    id: Uuid
    attempts: Count


class ReportAck(Message):
    type: Literal["report_ack"] = "report_ack"
    id: Uuid


class Canary(Message):
    type: Literal["canary"] = "canary"
    nonce: Token


class NewKey(Message):
    """The one message with a secret; its repr hides it."""

    type: Literal["new_key"] = "new_key"
    key: Annotated[str, StringConstraints(min_length=16, max_length=256), Field(repr=False)]


class GoAway(Message):
    type: Literal["go_away"] = "go_away"
    reason: Token
    delay: Milliseconds


AgentMessage = (
    Hello | Holding | Stated | Ready | Accepted | Attempted | Busy | Report | Held | CanaryEcho | Paused | Draining
)
ControlPlaneMessage = Welcome | Reconciled | Fire | Cancel | Release | ReportAck | Canary | NewKey | GoAway
