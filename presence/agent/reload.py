"""Settings that are read again while the agent runs: what can be changed live is, the rest is named.

A file that cannot be used changes nothing. Files that settings name (certificates, headers, credentials) are read
again as well, whether or not a setting has changed. Values appear in no line of the log.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from presence import logs
from presence.agent.http import Http
from presence.agent.intake import Intake
from presence.agent.pause import Pause
from presence.agent.pulse import REST, Pulse
from presence.agent.settings import AgentSettings
from presence.agent.targets import Targets
from presence.agent.worker import Worker, host_limits
from presence.domain.address import Address
from presence.domain.egress import EgressPolicy
from presence.errors import ConfigurationError
from presence.supervisor import notify, notify_reloading

log = logs.get_logger(__name__)

LOAD_SECONDS = 30.0
_ONLY_AT_START = {
    "control_plane": None,
    "health": None,
    "control": None,
    "delivery": {"max_in_flight", "max_response_bytes", "max_header_bytes"},
    "journal": {"path", "max_deliveries", "max_remembered"},
    "log": {"format"},
    "tracing": None,
}
"""Keys whose change needs a restart, by section; None: all of it."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What is changed live. `observe` is told the mode of the policy, before it is in force."""

    http: Http
    worker: Worker
    intake: Intake
    pause: Pause
    own: Callable[[], frozenset[tuple[Address, int]]]
    observe: Callable[[str], None]


class Reload:
    """`wanted.set()` asks for it. `settings`: those in force.

    `fault`: why the last reload changed nothing, None if it did; `restart`: the settings that wait for a restart.
    """

    def __init__(self, settings: AgentSettings, load: Callable[[], AgentSettings], stages: Stages) -> None:
        self.settings = settings
        self.fault: str | None = None
        self.restart: list[str] = []
        self.wanted = asyncio.Event()
        self.pulse = Pulse("reload")
        self._load = load
        self._stages = stages

    async def run(self) -> None:
        while True:
            self.pulse.promise(REST + 2 * LOAD_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(REST):
                    await self.wanted.wait()
            if self.wanted.is_set():
                self.wanted.clear()
                notify_reloading()
                await self._reload()
                notify("READY=1")

    async def _reload(self) -> None:
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                new, targets = await asyncio.to_thread(self._read)
            self._stages.observe(new.egress.mode)
        except (ConfigurationError, TimeoutError) as error:
            self.fault = "; ".join(str(error).splitlines()) or f"not read within {LOAD_SECONDS:g} s"
            log.error("settings not reloaded", reason=self.fault, effect="the running ones stay in force")
            return
        changed = set(changes(self.settings, new))
        self.fault, self.restart = None, sorted(key for key in changed if needs_restart(key))
        self._apply(new, targets)
        self.settings = in_force(self.settings, new)
        log.info("settings reloaded", changed=sorted(changed.difference(self.restart)))
        if self.restart:
            log.warning("restart needed", settings=self.restart, effect="their old values stay in force until then")

    def _read(self) -> tuple[AgentSettings, Targets]:
        """The settings and the files that they name."""
        new = self._load()
        new.control_plane.require()
        return new, Targets(new)

    def _apply(self, new: AgentSettings, targets: Targets) -> None:
        stages, retry, policy = self._stages, new.retry.policy(), new.egress.policy()
        warn_of(policy)
        stages.http.apply(replace(policy, own=stages.own()))
        stages.worker.deliver = replace(stages.worker.deliver, targets=targets, retry=retry)
        stages.worker.limit(host_limits(targets), new.delivery.rate)
        stages.intake.deadline = retry.deadline
        stages.pause.drain_rate = new.delivery.drain_rate
        if new.log.level != self.settings.log.level:
            logs.set_level(new.log.level)


def warn_of(policy: EgressPolicy) -> None:
    """Says what the policy opens that is not open by itself."""
    for network in policy.lifted:
        log.warning("egress.dangerously_lift opens what is never reached otherwise", network=str(network))
    if policy.mode == "observe":
        log.warning("egress.mode is observe: what only the default would refuse is sent", default=policy.default)


def changes(old: AgentSettings, new: AgentSettings) -> Iterator[str]:
    """The names of the settings whose values differ, as `section.key`; `targets` for all tables of that name."""
    for section in AgentSettings.model_fields:
        before, after = getattr(old, section), getattr(new, section)
        if section == "targets":
            if before != after:
                yield section
            continue
        for key in type(before).model_fields:
            if getattr(before, key) != getattr(after, key):
                yield f"{section}.{key}"


def needs_restart(setting: str) -> bool:
    section, _, key = setting.partition(".")
    if section not in _ONLY_AT_START:
        return False
    keys = _ONLY_AT_START[section]
    return keys is None or key in keys


def in_force(old: AgentSettings, new: AgentSettings) -> AgentSettings:
    """The new settings, but for those that count only at the start."""
    sections: dict[str, Any] = {}
    for section, keys in _ONLY_AT_START.items():
        before, after = getattr(old, section), getattr(new, section)
        kept = type(before).model_fields if keys is None else keys
        sections[section] = after.model_copy(update={key: getattr(before, key) for key in kept})
    return new.model_copy(update=sections)
