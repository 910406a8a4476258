"""Stops single threads of a process, as a disk or a lock that never answers would: by ptrace(2)."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
"""waitpid's flag for threads, which it does not wait for otherwise."""

_libc = ctypes.CDLL(None, use_errno=True)


def _ptrace(request: int, thread: int) -> None:
    if _libc.ptrace(request, thread, None, None) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def threads(pid: int) -> set[int]:
    """All but the first, in which the event loop runs."""
    return {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()} - {pid}


@contextmanager
def stopped(threads: set[int]) -> Iterator[None]:
    """These stand still until the end. To be used in one thread. Raises PermissionError where it is not allowed."""
    held = []
    try:
        for thread in threads:
            _ptrace(_SEIZE, thread)
            held.append(thread)
            _ptrace(_INTERRUPT, thread)
            os.waitpid(thread, _WALL)
        yield
    finally:
        for thread in held:
            try:
                _ptrace(_DETACH, thread)
            except ProcessLookupError:
                os.waitpid(thread, _WALL)  # killed meanwhile: unless it is waited for, its process has not ended
