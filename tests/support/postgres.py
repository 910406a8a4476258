"""A real PostgreSQL of the test run's own: Debian's programs, files in a directory of its own, a Unix socket and a
port of loopback.

Its texts are sorted as Americans do, so that what relies on bytes says so itself. Tests run as root, PostgreSQL does
not: there it runs as the user that Debian's package made.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from presence.controlplane.settings import Store

OWNER, RUNTIME, STRANGER = "presence_owner", "presence", "stranger"
PASSWORD = "correct horse"
"""Of the role `with_password`; all others need none."""
PATIENCE = 30.0
USER = "postgres"
MEMORY = "/dev/shm"


class Postgres:
    """A cluster of databases. `start` and `stop`, or `kill`, as often as wanted."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self._durable = durable
        self._postmaster: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """A new cluster, with the roles that a set-up by the book has."""
        data = self.directory / "data"
        if os.geteuid() == 0:
            found = pwd.getpwnam(USER)
            os.chown(self.directory, found.pw_uid, found.pw_gid)
        options = ("--auth=trust", "--encoding=UTF8", "--locale-provider=icu", "--icu-locale=en-US", "--locale=C")
        command = [program("initdb"), "-N", "-D", data, "-U", USER, *options]
        subprocess.run(self._as_user(command), check=True, capture_output=True, cwd="/")
        rules = data / "pg_hba.conf"
        rules.write_text(
            "local all with_password scram-sha-256\nlocal all all trust\nhost all all 127.0.0.1/32 trust\n"
        )
        self.start()
        for role in (OWNER, RUNTIME, STRANGER):
            self.execute(f"CREATE ROLE {role} LOGIN")
        self.execute(f"CREATE ROLE with_password LOGIN PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        """Returns when it takes connections. To be called by the main thread: PostgreSQL ends with its caller."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "max_connections": "200",
        }
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
        options = [f"-c{name}={value}" for name, value in settings.items()]
        command = self._as_user([program("postgres"), "-D", self.directory / "data", *options])
        deadline = time.monotonic() + PATIENCE
        with (self.directory / "log").open("ab") as log:
            while subprocess.run([program("pg_isready"), "-q", *self._place()], cwd="/").returncode:
                assert time.monotonic() < deadline, f"PostgreSQL does not start:\n{self.log()}"
                # It does not start beside what is left of one that was killed.
                if self._postmaster is None or self._postmaster.poll() is not None:
                    self._postmaster = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
                time.sleep(0.01)

    def stop(self) -> None:
        """Ends it by its own process id; open connections are cut."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the postmaster, which tidies nothing up; its children notice and end."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._postmaster is not None:
            self._postmaster.send_signal(number)
            self._postmaster.wait(PATIENCE)
            self._postmaster = None

    def execute(self, statement: str, database: str = "postgres", user: str = USER) -> str:
        """What psql prints for it, rows without decoration."""
        command = [program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", *self._place(), "-U", user, "-d", database]
        done = subprocess.run([*command, "-c", statement], capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _place(self) -> list[str | Path]:
        return ["-h", self.directory, "-p", str(self.port)]

    def url(self, database: str, user: str = RUNTIME) -> str:
        return f"postgresql://{user}@/{database}?host={self.directory}&port={self.port}"

    def store(self, database: str) -> Store:
        """The settings of a database by the book."""
        return Store(url=self.url(database), owner_url=self.url(database, OWNER))

    def create(self, database: str, template: str = "template0") -> None:
        """A copy; by files, as there are many of them and the files are in memory."""
        self.execute(f'CREATE DATABASE "{database}" OWNER {OWNER} TEMPLATE "{template}" STRATEGY file_copy')

    def drop(self, database: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def log(self) -> str:
        return (self.directory / "log").read_text()[-4000:]

    def _as_user(self, command: Sequence[str | Path]) -> list[str | Path]:
        # The kernel ends it, if the test run is killed.
        before = ["setpriv", "--pdeathsig=INT"]
        if os.geteuid() == 0:
            before += [f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
        return [*before, *command]


def program(name: str) -> Path:
    """Debian keeps PostgreSQL's programs by version; the newest one's."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    assert found, f"no {name}: run tests/debian"
    return found[-1]


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A running one while entered. `durable`: commits reach the disk, as in earnest."""
    memory = MEMORY if not durable and os.access(MEMORY, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="presence-postgres-", dir=memory))
    cluster = Postgres(directory, durable=durable)
    try:
        cluster.make()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory)
