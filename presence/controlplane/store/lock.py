"""One server for each SQLite file: two would each believe that they alone know which agents are connected."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from presence.controlplane.settings import Store
from presence.errors import DatabaseError


@contextmanager
def served(store: Store) -> Iterator[None]:
    """The right to serve the database while entered; the system takes it back when the process ends, however it does.

    Raises DatabaseError where another process has it. The file beside the database stays, and names the process.
    """
    database = store.path.resolve()
    path = database.with_name(f"{database.name}.lock")
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseError(f"the lock file {path} cannot be made: {error.strerror}") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process = os.pread(held, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(held)
        raise DatabaseError(
            f"the database {database} is served by another control plane already (process {process});"
            " stop that one first, or set database.url to another file"
        ) from None
    try:
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(held)
