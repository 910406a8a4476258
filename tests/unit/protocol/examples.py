"""Valid messages: one of each type, and hypothesis strategies that build them to their limits."""

import string
from typing import get_args

from hypothesis import strategies as st
from pydantic import BaseModel

from presence.domain.delivery import FinalState
from presence.protocol.messages import (
    Accepted,
    AgentMessage,
    Attempted,
    AttemptRecord,
    Busy,
    Canary,
    CanaryEcho,
    Cancel,
    ControlPlaneMessage,
    Draining,
    Fire,
    GoAway,
    Held,
    Hello,
    Holding,
    NewKey,
    Paused,
    Ready,
    Reconciled,
    Release,
    Report,
    ReportAck,
    Stated,
    Welcome,
)

ID = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
OTHER_ID = "00000000-0000-4000-8000-000000000001"
RUN = "00000000-0000-4000-8000-000000000002"
HOUR = 3_600_000
BUSY_REASONS = ("journal_full", "journal_failed", "memory_full", "host_full", "draining", "paused")


def make_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def hello(credit: int = 8, versions: tuple[int, ...] = (1,), epoch: int = 1) -> Hello:
    return Hello(versions=versions, instance=OTHER_ID, epoch=epoch, run=RUN, credit=credit, agent_version="0.1.0")


def welcome() -> Welcome:
    return Welcome(version=1, canary_every=15_000, lease=60_000, server_time=1_700_000_000_000)


def fire(delivery: str = ID, uri: str = "http://myservice.com/ScanEnded/{SubjectId}") -> Fire:
    return Fire(
        id=delivery, webhook_id=OTHER_ID, event="ScanExecutionCompleted", subject_id=ID, uri=uri, max_age=24 * HOUR
    )


def held(delivery: str = ID, attempts: int = 1) -> Held:
    return Held(id=delivery, reason="unknown", attempts=attempts)


def report(delivery: str = ID, state: FinalState = FinalState.SUCCEEDED, reason: str = "delivered") -> Report:
    return Report(id=delivery, state=state, reason=reason, attempts=1, settled_ago=5)


AGENT_EXAMPLES: dict[str, AgentMessage] = {
    "hello": hello(),
    "holding": Holding(ids=(ID, OTHER_ID), unattempted=(ID,)),
    "stated": Stated(),
    "ready": Ready(),
    "accepted": Accepted(id=ID),
    "attempted": Attempted(ids=(ID, OTHER_ID)),
    "busy": Busy(id=ID, reason="journal_full", retry_in=1_000),
    "report": Report(
        id=ID,
        state=FinalState.FAILED,
        reason="attempts_exhausted",
        attempts=2,
        settled_ago=3,
        log=(
            AttemptRecord(number=1, ago=90, took=7, phase="connect", fault="connection_refused", address="10.1.2.3"),
            AttemptRecord(number=2, ago=10, took=7, status=503, hint="target_overloaded", dns=1, first_byte=6),
        ),
    ),
    "held": Held(
        id=ID,
        reason="unknown",
        attempts=1,
        log=(AttemptRecord(number=1, ago=90, took=7, phase="first-byte", fault="reset", unknown=True),),
    ),
    "canary_echo": CanaryEcho(nonce="n-1"),
    "paused": Paused(remaining=HOUR),
    "draining": Draining(),
}
CONTROL_PLANE_EXAMPLES: dict[str, ControlPlaneMessage] = {
    "welcome": welcome(),
    "reconciled": Reconciled(),
    "fire": fire(),
    "cancel": Cancel(id=ID),
    "release": Release(id=ID, attempts=1),
    "report_ack": ReportAck(id=ID),
    "canary": Canary(nonce="n-1"),
    "new_key": NewKey(key="k" * 43),
    "go_away": GoAway(reason="restart", delay=2_000),
}
EXAMPLES: dict[str, BaseModel] = {**AGENT_EXAMPLES, **CONTROL_PLANE_EXAMPLES}
AGENT_TYPES: tuple[type[BaseModel], ...] = get_args(AgentMessage)
CONTROL_PLANE_TYPES: tuple[type[BaseModel], ...] = get_args(ControlPlaneMessage)

uuids = st.uuids().map(str)
ids = st.lists(uuids, max_size=20).map(tuple)
milliseconds = st.integers(0, 2**53 - 1)
counts = st.integers(0, 2**31 - 1)
tokens = st.text(string.ascii_letters + string.digits + "_.:-", max_size=64)
_unicode = st.characters(exclude_categories=["Cs"])
texts = st.text(_unicode, max_size=256)
hosts = st.text(string.ascii_letters + string.digits + "._:[]-", max_size=270)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=100)
_marks = st.sampled_from([None, True])

attempt_records = st.builds(
    AttemptRecord,
    number=counts,
    ago=milliseconds,
    took=milliseconds,
    status=st.none() | st.integers(100, 999),
    phase=st.none() | tokens,
    fault=st.none() | tokens,
    reason=st.none() | tokens,
    address=st.none() | st.ip_addresses().map(str),
    hint=st.none() | tokens,
    location=st.none() | hosts,
    proxy=st.none() | hosts,
    unknown=_marks,
    repeated=_marks,
    observed=_marks,
    **{phase: st.none() | milliseconds for phase in ("dns", "connect", "tls", "write", "first_byte", "body")},
)
logs = st.lists(attempt_records, max_size=4).map(tuple)
agent_messages: st.SearchStrategy[AgentMessage] = st.one_of(
    st.builds(
        Hello,
        versions=st.lists(counts, min_size=1, max_size=16).map(tuple),
        instance=uuids,
        epoch=counts,
        run=uuids,
        credit=st.integers(1, 10_000),
        agent_version=tokens,
        host=texts,
        platform=tokens,
    ),
    st.builds(Holding, ids=ids, unattempted=ids),
    st.builds(Stated),
    st.builds(Ready),
    st.builds(Accepted, id=uuids),
    st.builds(Attempted, ids=ids),
    st.builds(
        Busy,
        id=uuids,
        reason=st.sampled_from(BUSY_REASONS),
        retry_in=milliseconds,
    ),
    st.builds(
        Report,
        id=uuids,
        state=st.sampled_from(FinalState),
        reason=tokens,
        attempts=counts,
        settled_ago=milliseconds,
        log=logs,
    ),
    st.builds(Held, id=uuids, reason=tokens, attempts=counts, log=logs),
    st.builds(CanaryEcho, nonce=tokens),
    st.builds(Paused, remaining=st.none() | milliseconds),
    st.builds(Draining),
)
fires = st.builds(
    Fire,
    id=uuids,
    webhook_id=uuids,
    event=tokens,
    subject_id=texts,
    uri=st.text(_unicode, max_size=2048),
    method=st.sampled_from(["GET", "POST", "PUT"]),
    body=st.none() | st.text(_unicode, max_size=8192),
    content_type=st.none() | texts,
    authorization=st.none() | printable,
    on_unknown=st.sampled_from(["fire", "hold"]),
    age=milliseconds,
    max_age=milliseconds,
)
control_plane_messages: st.SearchStrategy[ControlPlaneMessage] = st.one_of(
    st.builds(Welcome, version=counts, canary_every=milliseconds, lease=milliseconds, server_time=milliseconds),
    st.builds(Reconciled),
    fires,
    st.builds(Cancel, id=uuids),
    st.builds(Release, id=uuids, attempts=counts),
    st.builds(ReportAck, id=uuids),
    st.builds(Canary, nonce=tokens),
    st.builds(NewKey, key=st.text(_unicode, min_size=16, max_size=256)),
    st.builds(GoAway, reason=tokens, delay=milliseconds),
)
