"""What is done to the service, in this order, each from where the one before left it; and what must be so then."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.boot.container import Failed, until
from tests.boot.site import ADDRESS, AGENT, CONTROL_PLANE, KEY, PORT, RECEIVER, SETTINGS, Site
from tests.support.tracing import stopped, threads

Scenario = Callable[[Site, int], str]
"""Takes the site and a number of deliveries; says what was seen, or raises Failed."""

STATE = "/var/lib/presence"
TIMEOUT = "Watchdog timeout"


def check(is_so: object, what: str) -> None:
    if not is_so:
        raise Failed(what)


def install(site: Site, count: int) -> str:
    """Enabled, not started, and a start without a key says why it fails."""
    run = site.container
    run("dpkg", "--install", site.packages[0])
    check(run("systemctl", "is-enabled", AGENT) == "enabled", "the unit is not enabled")
    check(not site.is_active(), "the agent runs without a key")
    said = run("systemctl", "start", AGENT, code=1)
    check("Assertion failed" in said, f"a start without a key says: {said}")
    check(KEY in run("systemctl", "status", AGENT, code=3), "the status does not name the key's file")
    run("presence", "--version")
    return "installed, enabled, not started; 'systemctl start' without a key fails and the status names the file"


def deliver(site: Site, count: int) -> str:
    """From the control plane through the agent to a receiver, without any privilege."""
    run = site.container
    site.enrol()
    run("systemctl", "start", AGENT)
    site.online()
    repeats = site.delivered(site.fire(count))
    check(site.container.shown(AGENT, "NRestarts") == "0", "it was restarted")
    lines = run("cat", f"/proc/{site.main_pid()}/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    check(status["CapEff"].strip("0") == "" and status["CapBnd"].strip("0") == "", "it has capabilities")
    check(status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", "it may gain privileges or call anything")
    user = run("id", "-u", "presence")
    check(status["Uid"].split() == [user] * 4, "it does not run as its own user")
    check(run("stat", "-c", "%U %a", STATE) == "presence 700", "others may look at its state")
    exposure = run("systemd-analyze", "security", AGENT).splitlines()[-1].split(":")[1].split()[0]
    check(float(exposure) <= 1.5, f"its exposure is {exposure}")
    allowed = f"no capability, own user, system calls filtered, live exposure {exposure}"
    return f"{count} delivered, {repeats} repeated; {allowed}"


def sigkill(site: Site, count: int) -> str:
    """Killed as soon as events have come, while its requests are under way, and while its target is down."""
    run, before = site.container, int(site.container.shown(AGENT, "NRestarts"))
    made = site.fire(count)
    _kill(site)
    run("systemctl", "kill", "--signal=STOP", RECEIVER)
    made |= site.fire(count)
    until(lambda: True if site.status()["deliveries"]["in_flight"] else None, "requests under way")
    _kill(site)
    run("systemctl", "kill", "--signal=CONT", RECEIVER)
    run("systemctl", "stop", RECEIVER)
    waiting = site.fire(count)
    site.ended(waiting, "accepted")
    _kill(site)
    run("systemctl", "start", RECEIVER)
    repeats = site.delivered(made | waiting)
    restarts = int(run.shown(AGENT, "NRestarts")) - before
    check(restarts == 3, f"{restarts} restarts after 3 kills")
    return f"3 kills, 3 restarts; {len(made | waiting)} delivered, {repeats} repeated, none lost"


def _kill(site: Site) -> None:
    pid = site.main_pid()
    site.container("systemctl", "kill", "--signal=KILL", AGENT)
    until(lambda: True if site.is_active() and site.main_pid() not in ("0", pid) else None, "the restart")


def watchdog(site: Site, count: int) -> str:
    """It hangs, whole or one stage of it: systemd notices, ends it, and starts it again."""
    run, seconds = site.container, 3
    drop_in = run.path(f"/etc/systemd/system/{AGENT}.d/watchdog.conf")
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text(f"[Service]\nWatchdogSec={seconds}\n")
    run("systemctl", "daemon-reload")
    _restart(site)
    pid = site.main_pid()
    made = site.fire(count)
    site.delivered(made)
    check(site.main_pid() == pid, "the watchdog ended an agent that works")
    repeats = 0
    for hanging in (_stopped, _without_journal):
        before, told = int(run.shown(AGENT, "NRestarts")), run.log_of(AGENT).count(TIMEOUT)
        with hanging(site):
            made = site.fire(count)
            until(lambda told=told: True if run.log_of(AGENT).count(TIMEOUT) > told else None, "the watchdog")  # type: ignore[misc]
        until(lambda before=before: True if int(run.shown(AGENT, "NRestarts")) > before else None, "the restart")  # type: ignore[misc]
        repeats += site.delivered(made)
    drop_in.unlink()
    run("systemctl", "daemon-reload")
    _restart(site)
    return (
        f"WatchdogSec={seconds}: stopped whole, and all but the event loop, which still answered: "
        f"ended and restarted; {2 * count} delivered, {repeats} repeated"
    )


@contextmanager
def _stopped(site: Site) -> Iterator[None]:
    """The whole agent stands still."""
    site.container("kill", "-STOP", site.main_pid())
    yield


@contextmanager
def _without_journal(site: Site) -> Iterator[None]:
    """All threads stand still but the event loop's, which still answers."""
    with stopped(threads(site.container.pid(site.main_pid()))):
        check(site.http_status("/") == 404, "the event loop does not answer")
        yield


def reload(site: Site, count: int) -> str:
    """New settings reach the running agent; settings that cannot be used change nothing."""
    run, bad, denied = site.container, 'deny = "not a list"', f'deny = ["{ADDRESS}:{PORT}"]'
    pid = site.main_pid()
    site.set("[egress]", denied)
    _reload(site)
    site.ended(site.fire(1), "refused")
    site.unset(denied)
    site.set("[egress]", bad)
    run("systemctl", "reload", AGENT, code=1)
    said = f"{SETTINGS}:{run.path(SETTINGS).read_text().splitlines().index(bad) + 1}: egress.deny"
    check(said in run.log_of(AGENT), "the log does not say where the fault is")
    site.ended(site.fire(1), "refused")
    site.unset(bad)
    _reload(site)
    site.delivered(site.fire(count))
    check(site.main_pid() == pid, "it was another process")
    return (
        "a new rule refused the next delivery; a bad file failed the reload; the rule withdrawn, delivered; one process"
    )


def _reload(site: Site) -> None:
    before = _reloads(site)
    site.container("systemctl", "reload", AGENT)
    until(lambda: True if _reloads(site) > before else None, "the reload")


def _reloads(site: Site) -> int:
    return sum(line.get("event") == "settings reloaded" for line in site.lines())


def operate(site: Site, count: int) -> str:
    """The commands of the command line beside the running service, as root, without a setting for them."""
    run = site.container
    check(run("presence", "healthcheck") == "healthy", "it is not healthy")
    check(json.loads(run("presence", "status", "--json")), "it has no state")
    run("presence", "config", "check")
    run("presence", "pause", "--for", "1h")
    made = site.fire(30)
    run("presence", "deliveries", "list")
    check(not site.count(made)["succeeded"], "a pause let an attempt start")
    run("presence", "resume")
    repeats = site.delivered(made)
    doctor = run("presence", "doctor")
    check("/var/lib/presence" in doctor, f"the doctor looks elsewhere: {doctor}")
    return f"healthy; {len(made)} waited for the end of a pause, {repeats} repeated; the doctor finds nothing"


def rotate(site: Site, count: int) -> str:
    """The key is exchanged over the link, and later by a file: each outlives a restart, and ends the one before."""
    run, file = site.container, site.container.path(KEY)
    stored, first = f"{STATE}/presence.key", file.read_text()
    rotation = site.api.call("POST", f"Presences/{site.presence}/RotateKey")
    check(rotation["Status"] == "Done", f"the rotation is {rotation}")
    check(run("stat", "-c", "%U %a", stored) == "presence 600", "others may look at the stored key")
    check(file.read_text() == first, "the configured key was changed")
    _restart(site)
    repeats = site.delivered(site.fire(count))
    file.write_text(json.dumps(site.api.call("GET", f"Presences/{site.presence}/NewKey")))
    _restart(site)
    repeats += site.delivered(site.fire(count))
    return f"restarted with the stored key, and with a newer file: {2 * count} delivered, {repeats} repeated"


def _restart(site: Site) -> None:
    """Returns once it is connected again."""
    before = site.connections()
    site.container("systemctl", "restart", AGENT)
    site.online(before)


def poweroff(site: Site, count: int) -> str:
    """The host goes down while the agent's journal is full, and comes back."""
    run, of_one_host = site.container, 200  # a fifth of the journal is for any one host
    full = f"max_deliveries = {5 * of_one_host}"
    site.set("[journal]", full)
    run("systemctl", "restart", AGENT)
    run("systemctl", "stop", RECEIVER)
    made = site.fire(of_one_host + 50)
    until(lambda: True if site.count(made)["accepted"] == of_one_host else None, "a full journal")
    waiting = site.count(made)
    run.poweroff()
    run.boot()
    site.log_in()
    # The rest was answered busy and comes half a minute later.
    repeats = site.delivered(made, patience=120)
    site.unset(full)
    run("systemctl", "restart", AGENT)
    shown = ", ".join(f"{number} {state}" for state, number in sorted(waiting.items()))
    return f"powered off with {shown}; after the boot all {len(made)} delivered, {repeats} repeated"


def disk(site: Site, count: int) -> str:
    """The journal's file system is full for a while."""
    run = site.container
    run("systemctl", "stop", AGENT)
    run("mount", "-t", "tmpfs", "-o", "size=4m,mode=0700,uid=presence,gid=presence", "tmpfs", STATE)
    run("systemctl", "start", AGENT)
    connections = site.connections()
    site.delivered(site.fire(1))
    run("sh", "-c", f"head -c 8m /dev/zero >{STATE}/fill || true")
    pid = site.main_pid()
    made = site.fire(count)
    until(lambda: True if _says_full(site) else None, "a word about the full disk")
    check(site.count(made)["succeeded"] < len(made), "nothing was refused by a full disk")
    run("rm", f"{STATE}/fill")
    repeats = site.delivered(made, patience=120)
    check(site.main_pid() == pid and connections <= site.connections(), "it did not go on by itself")
    run("systemctl", "stop", AGENT)
    run("umount", STATE)
    run("systemctl", "start", AGENT)
    return f"full, then freed: {count} delivered by the same process, {repeats} repeated"


def _says_full(site: Site) -> bool:
    return any("full" in str(line) for line in site.lines())


def upgrade(site: Site, count: int) -> str:
    """A newer package with other default settings, while deliveries wait for their target and others come.

    As an unattended installation does it: nobody is asked, and the administrator's settings stay.
    """
    run = site.container
    run("systemctl", "start", AGENT)
    site.set("[delivery]", "grace = 15.0")
    pid, settings, older = site.main_pid(), run.path(SETTINGS).read_text(), run("presence", "--version")
    run("systemctl", "stop", RECEIVER)
    waiting = site.fire(count)
    site.ended(waiting, "accepted")
    run("apt-get", "install", "--yes", "--quiet", "--option=Dpkg::Options::=--force-confold", site.packages[1])
    made = waiting | site.fire(count)
    check(run("presence", "--version") != older, "it is the older version")
    check(run.path(SETTINGS).read_text() == settings, "the settings were changed")
    check(run.path(f"{SETTINGS}.dpkg-dist").exists(), "the newer default settings are not beside them")
    check(site.is_active() and site.main_pid() != pid, "the agent was not restarted")
    run("systemctl", "start", RECEIVER)
    repeats = site.delivered(made)
    return (
        f"with {count} waiting for a target that was down: settings kept, the newer ones beside them, restarted; "
        f"{len(made)} delivered, {repeats} repeated, none lost"
    )


def stop(site: Site, count: int) -> str:
    """`systemctl stop` ends it within the grace period, cleanly."""
    site.container("systemctl", "stop", AGENT)
    result, code = (site.container.shown(AGENT, name) for name in ("Result", "ExecMainStatus"))
    check((result, code) == ("success", "0"), f"its result is {result}, its exit code {code}")
    return "stopped with exit code 0"


def remove(site: Site, count: int) -> str:
    """Removed, its settings, key and journal stay, and serve the next installation; purged, nothing stays."""
    run = site.container
    run("systemctl", "start", AGENT)
    run("dpkg", "--remove", "presence-agent")
    check(not site.is_active(), "it still runs")
    for kept in (SETTINGS, KEY, f"{STATE}/journal.db"):
        check(run.path(kept).exists(), f"{kept} is gone")
    made = site.fire(count)
    run("dpkg", "--force-confold", "--install", site.packages[1])
    check(site.is_active(), "with a key at hand the agent was not started")
    site.delivered(made)
    run("dpkg", "--purge", "presence-agent")
    for gone in (SETTINGS, KEY, STATE, "/opt/presence", "/usr/bin/presence", "/run/presence"):
        check(not run.path(gone).exists(), f"{gone} is still there")
    run("getent", "passwd", "presence", code=2)
    units = run("systemctl", "list-unit-files", "--no-legend", AGENT, code=1)
    check(units == "", f"systemd still knows the unit: {units}")
    check(site.is_active(CONTROL_PLANE), "the control plane went with it")
    return "removed: settings, key and journal kept and used again; purged: unit, state, key and user gone"


def by_hand(site: Site, count: int) -> str:
    """Installed with pip as the unit's head says, and upgraded so: `systemctl restart` is the only step more."""
    run, home = site.container, "/opt/presence"
    site.install_agent()
    site.online(site.connections())
    run("systemctl", "stop", RECEIVER)
    made = site.fire(count)
    site.ended(made, "accepted")
    older, pid = run(f"{home}/bin/presence", "--version"), site.main_pid()
    site.pip(home, "presence[fast]", newer=True)
    check(run(f"{home}/bin/presence", "--version") != older, "it is the older version")
    check(site.main_pid() == pid, "the upgrade ended the running agent")
    _restart(site)
    run("systemctl", "start", RECEIVER)
    repeats = site.delivered(made)
    return f"installed with pip, upgraded with {count} waiting, restarted: all delivered, {repeats} repeated"


SCENARIOS: dict[str, Scenario] = {
    "install": install,
    "deliver": deliver,
    "sigkill": sigkill,
    "watchdog": watchdog,
    "reload": reload,
    "operate": operate,
    "rotate": rotate,
    "poweroff": poweroff,
    "disk": disk,
    "upgrade": upgrade,
    "stop": stop,
    "remove": remove,
    "pip": by_hand,
}
ALWAYS = ("install", "deliver")
"""Every other scenario begins where these have left the site."""
UPGRADES = {"upgrade", "pip"}
"""They need a later version to upgrade to."""
