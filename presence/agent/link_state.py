"""The link's state, and what is known of it: for the log, and as a frozen value for whoever asks.

offline -> connecting -> online -> draining
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from presence.agent.ends import Cause, Failure, Retry
from presence.clock import Clock
from presence.logs import get_logger

log = get_logger("presence.agent.link")

REPEATED_EVERY = 600_000
"""Milliseconds between two lines of the same failure."""
CLOCK_OFF = 30_000
"""Milliseconds of offset from the control plane's clock from which on it is worth a warning."""
REMEMBERED = 100


class LinkState(StrEnum):
    OFFLINE = "offline"
    CONNECTING = "connecting"
    ONLINE = "online"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class LastFailure:
    """Why the link was last interrupted, and how many milliseconds ago."""

    cause: Cause
    reason: str
    ago: int


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """All times in milliseconds. `lasts`: how long the state does; `tries`: since there was a session.

    `canary_ago`: since the control plane last asked for a sign of life; None: not in this session.
    `clock_offset`: what is to be added to the host's wall clock to get the control plane's; None: not known yet.
    """

    state: LinkState
    lasts: int
    tries: int
    failure: LastFailure | None
    canary_ago: int | None
    clock_offset: int | None


class Chronicle:
    """The one setter of the state, `changed` is called after it; one log line for each change that says something new.

    A failure that comes again and again is told at once, and then every ten minutes with its count.
    `changes` to each state and `failures` by their causes are counted since the start.
    """

    def __init__(self, clock: Clock, url: str, changed: Callable[[], None] = lambda: None) -> None:
        self.state = LinkState.OFFLINE
        self.clock_offset: int | None = None
        self.changes: Counter[LinkState] = Counter()
        self.failures: Counter[Cause] = Counter()
        self._clock = clock
        self._url = url
        self._changed = changed
        self._since = clock.elapsed()
        self._tries = 0
        self._failure: tuple[Failure, int] | None = None
        self._canary_at: int | None = None
        self._told: dict[tuple[Cause, str], tuple[int, int]] = {}
        """When each failure was last told, and how often it came since."""
        self._last_told: LinkState | None = None
        self._warned = False

    def status(self) -> LinkStatus:
        now = self._clock.elapsed()
        failure = None
        if self._failure is not None:
            last, at = self._failure
            failure = LastFailure(last.cause, last.reason, now - at)
        canary_ago = None if self._canary_at is None else now - self._canary_at
        return LinkStatus(self.state, now - self._since, self._tries, failure, canary_ago, self.clock_offset)

    def connecting(self) -> None:
        self._tries += 1
        self._enter(LinkState.CONNECTING)
        log.debug("link", state=self.state.value, url=self._url)

    def online(self) -> None:
        self._enter(LinkState.ONLINE)
        # Whoever reads the log must not believe that it is offline still.
        line = log.debug if self._last_told is LinkState.ONLINE else log.info
        line("link", state=self.state.value, url=self._url, tries=self._tries)
        self._last_told = LinkState.ONLINE
        self._tries = 0

    def draining(self) -> None:
        self._enter(LinkState.DRAINING)
        log.info("link", state=self.state.value)

    def offline(self, failure: Failure, wait: float, stable: bool) -> None:
        """`wait`: seconds until the next try. `stable`: a session had lasted, so that this is no repetition."""
        now = self._clock.elapsed()
        self._canary_at = None
        self._failure = failure, now
        self.failures[failure.cause] += 1
        self._enter(LinkState.OFFLINE)
        if stable or len(self._told) >= REMEMBERED:
            self._told.clear()
        told_at, repeated = self._told.get((failure.cause, failure.reason), (None, 0))
        fields = {"cause": failure.cause.value, "reason": failure.reason, "retry_in": round(wait, 1)}
        if told_at is not None and failure.retry is not Retry.RARELY and now - told_at < REPEATED_EVERY:
            self._told[failure.cause, failure.reason] = told_at, repeated + 1
            log.debug("link", state=self.state.value, **fields)
            return
        self._told[failure.cause, failure.reason] = now, 0
        if repeated:
            fields["repeated"] = repeated
        _line(failure)("link", state=self.state.value, **fields)
        self._last_told = LinkState.OFFLINE

    def canary(self) -> None:
        self._canary_at = self._clock.elapsed()

    def met(self, offset: int) -> None:
        """The offset of the clocks, measured at the begin of a session."""
        self.clock_offset = offset
        if abs(offset) > CLOCK_OFF:
            what = f"{abs(offset) / 1000:.0f} s {'behind' if offset > 0 else 'ahead of'} the control plane's"
            log.warning("this host's clock is wrong", clock=what, remedy="set it, best by NTP")
            self._warned = True
        elif self._warned:
            log.info("this host's clock is right again", offset_ms=offset)
            self._warned = False

    def _enter(self, state: LinkState) -> None:
        self.state, self._since = state, self._clock.elapsed()
        self.changes[state] += 1
        self._changed()


def _line(failure: Failure) -> Callable[..., object]:
    if failure.retry is Retry.RARELY or failure.cause is Cause.AUTH:
        return log.error
    return log.info if failure.retry is Retry.AT_ONCE else log.warning
