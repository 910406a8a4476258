"""A Debian with systemd, booted by systemd-nspawn; and the network that only it has."""

import ctypes
import os
import platform
import shlex
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds that anything in the container may take."""
_CLONE_NEWNET = 0x40000000
_INCLUDED = "systemd,systemd-sysv,dbus,python3,python3-venv,iproute2,procps"


class Failed(Exception):
    """Something did not happen as it must."""


def command(*words: str | Path, cwd: Path | None = None) -> str:
    """Runs it on this machine; its standard output. Failed with all that it said if it fails."""
    done = subprocess.run(words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{shlex.join(map(str, words))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def make_root(root: Path) -> None:
    """A minimal Debian of this machine's version in that directory, as a host has it before anything of ours."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    command("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={_INCLUDED}", suite, root)


def until(condition: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """The condition's value as soon as it has one: a container has no event to wait for, so it is asked."""
    deadline = time.monotonic() + patience
    while (value := condition()) is None:
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not so after {patience:g} s")
        time.sleep(0.1)
    return value


class Container:
    """`with Container(root) as container`: booted while entered. Leaving powers it off; nothing is left running."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = root.with_suffix(".log")

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._nspawn.poll() is not None:
            return
        # Asked to end it, systemd-nspawn powers the container off. Killed itself, it would leave it running.
        self._nspawn.terminate()
        try:
            self._nspawn.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.kill(self._leader, 9)
            self._nspawn.wait(PATIENCE)

    def boot(self) -> None:
        """Boots, and moves this program's network to the container's loopback. Returns when systemd is done."""
        options = ("--register=no", "--keep-unit", "--private-network", "--console=pipe", "--boot")
        with self._log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--directory", self.root, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._leader = until(self._find_leader, "the container's init")
        _enter_network(self._leader)
        until(self._is_up, "the container's boot")

    def poweroff(self) -> None:
        """An orderly end, as `systemctl poweroff` brings it."""
        self("systemctl", "poweroff")
        try:
            self._nspawn.wait(PATIENCE * 2)
        except subprocess.TimeoutExpired:
            raise Failed("the container did not power off") from None

    def __call__(self, *words: str, code: int = 0) -> str:
        """Runs it in the container as root; standard output and error. Failed unless it ends with that code."""
        done = self._run(*words)
        if done.returncode != code:
            raise Failed(f"{shlex.join(words)}: exit code {done.returncode}, not {code}\n{done.stdout}")
        return done.stdout.strip()

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self("systemctl", "show", "--value", "--property", name, unit)

    def path(self, path: str) -> Path:
        """A file of the container, seen from here."""
        return self.root / path.lstrip("/")

    def pid(self, inside: str) -> int:
        """A process of the container by the number that it has outside."""
        namespace = Path(f"/proc/{self._leader}/ns/pid").readlink()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if _numbers(entry)[-1] == inside and (entry / "ns/pid").readlink() == namespace:
                    return int(entry.name)
        raise Failed(f"the container has no process {inside}")

    def log_of(self, unit: str) -> str:
        return self("journalctl", "--no-pager", "--output=cat", "--unit", unit)

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "--target", str(self._leader), *("-m", "-p", "-n", "-u", "-i", "-C")]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"]
        return subprocess.run(
            [*inside, *clean, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE * 5,
        )

    def _find_leader(self) -> int | None:
        if self._nspawn.poll() is not None:
            raise Failed(f"systemd-nspawn ended:\n{self._log.read_text(errors='replace')[-2000:]}")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        for child in children:
            place = Path("/proc", child)
            if (place / "comm").read_text() == "systemd\n" and _numbers(place)[-1] == "1":
                return int(child)
        return None

    def _is_up(self) -> bool | None:
        state = self._run("systemctl", "is-system-running").stdout.strip()
        if state == "degraded":
            raise Failed(f"a unit failed at boot:\n{self._run('systemctl', '--failed', '--no-pager').stdout}")
        return True if state == "running" else None


def _numbers(process: Path) -> list[str]:
    """A process's number in each namespace that it is in, from the outermost."""
    (numbers,) = (line for line in (process / "status").read_text().splitlines() if line.startswith("NSpid:"))
    return numbers.split()[1:]


def _enter_network(process: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{process}/ns/net").open() as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET):
            raise Failed(f"setns: {os.strerror(ctypes.get_errno())}")
