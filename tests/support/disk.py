"""File systems of a test's own that fill up, turn read-only or lose their power. They need a mount namespace.

`in_mount_namespace()` puts the whole program into one: what it mounts goes with its last process.
"""

import asyncio
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

MARK = "TESTS_MOUNT_NAMESPACE"
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
"""EXT4_IOC_SHUTDOWN of the kernel's ext4.h: what is not on the disk now will never be."""
_UNSHARE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")


def in_mount_namespace() -> str:
    """Starts the program anew in a namespace of its own, unless it is there already; else why that cannot be."""
    if MARK in os.environ:
        return ""
    unshare = _UNSHARE if os.geteuid() == 0 else (*_UNSHARE, "--map-root-user")
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True)
    if tried.returncode:
        return f"no mount namespace can be made here: {tried.stderr.strip()}"
    os.environ[MARK] = "1"
    sys.stdout.flush()
    return os.execvp(unshare[0], [*unshare, sys.executable, *sys.orig_argv[1:]])


def loop_unavailable() -> str:
    """Why no image can be mounted here; empty if it can."""
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split()[:2] != ["0", "0"]:
        return "loop devices need root"
    tried = subprocess.run(["losetup", "--find"], capture_output=True, text=True)
    return f"no loop device: {tried.stderr.strip()}" if tried.returncode else ""


async def command(*words: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *map(str, words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"{' '.join(map(str, words))}: {out.decode().strip()}"


class Ext4:
    """An ext4 image on a loop device, mounted at `path`."""

    def __init__(self, directory: Path, megabytes: int = 64) -> None:
        self.path = directory / "disk"
        self._image = directory / "disk.img"
        self._megabytes = megabytes

    async def make(self) -> None:
        self.path.mkdir(exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._megabytes << 20)
        await command("mkfs.ext4", "-q", "-F", self._image)
        await self.mount()

    async def mount(self) -> None:
        await command("mount", "-o", "loop", self._image, self.path)

    async def unmount(self) -> None:
        await command("umount", self.path)

    def cut_power(self) -> None:
        """From now on nothing is written any more, and what was not yet, is lost."""
        directory = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(directory)


@asynccontextmanager
async def ext4(directory: Path) -> AsyncIterator[Ext4]:
    """Mounted while entered. Its processes must have ended on leaving."""
    disk = Ext4(directory)
    await disk.make()
    try:
        yield disk
    finally:
        if disk.path.is_mount():
            await disk.unmount()


@asynccontextmanager
async def tmpfs(directory: Path, kilobytes: int) -> AsyncIterator[Path]:
    """A small disk, mounted while entered."""
    directory.mkdir()  # noqa: ASYNC240 - a test
    await command("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "presence-test", directory)
    try:
        yield directory
    finally:
        await command("umount", "-l", directory)


def fill(directory: Path) -> Path:
    """Takes all the space that is left; the file that has it."""
    ballast = directory / "ballast"
    with ballast.open("ab", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            return ballast
