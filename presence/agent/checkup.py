"""Doctor's checks in their order. Nothing is changed, no session begins, no request is sent to a target."""

from collections.abc import AsyncIterator
from pathlib import Path

from presence.agent.checkup_files import check_files
from presence.agent.checkup_journal import check_journal
from presence.agent.checkup_link import check_control_plane
from presence.agent.checkup_targets import check_targets
from presence.agent.control_path import settings_file
from presence.agent.effective import faults_of_files
from presence.agent.finding import Finding, failed, ok, skipped
from presence.agent.settings import AgentSettings, load_settings
from presence.agent.targets import Targets
from presence.clock import Clock
from presence.errors import ConfigurationError

REMEDY = "correct it, and try: presence config check"
WITHOUT_SETTINGS = "without settings"
NEED_SETTINGS = ("secrets", "control plane", "journal", "targets")


async def checkup(config: Path | None, clock: Clock) -> AsyncIterator[Finding]:
    """Each finding as soon as it is there. A fault of the settings leaves out what depends on it."""
    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        for line in str(error).splitlines():
            yield failed("configuration", line, REMEDY)
        for check in NEED_SETTINGS:
            yield skipped(check, WITHOUT_SETTINGS)
        return
    faults = [*_lacking(settings), *faults_of_files(settings, config)]
    for fault in faults:
        yield failed("configuration", fault, REMEDY)
    if not faults:
        yield ok("configuration", str(settings_file(config) or "defaults and environment"))
    for finding in check_files(settings, config):
        yield finding
    for finding in await check_control_plane(settings, clock):
        yield finding
    for finding in check_journal(settings.journal.location()):
        yield finding
    for finding in await _check_targets(settings):
        yield finding


def _lacking(settings: AgentSettings) -> list[str]:
    """What the daemon cannot do without."""
    try:
        settings.control_plane.require()
    except ConfigurationError as error:
        return [str(error)]
    return []


async def _check_targets(settings: AgentSettings) -> list[Finding]:
    try:
        targets = Targets(settings)
    except ConfigurationError:
        return [skipped("targets", "first the settings must be right")]
    return await check_targets(settings, targets)
