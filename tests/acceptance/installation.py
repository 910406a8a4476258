"""A presence's download, unpacked and installed in a directory of its own, as its INSTALL.txt says."""

import subprocess
import sys
import sysconfig
import zipfile
from io import BytesIO
from pathlib import Path

from tests.integration.controlplane.peers import Caller

ROOT = Path(__file__).parents[2]


def build(directory: Path) -> Path:
    """The agent's package, made from this tree."""
    # hatchling is in the test extra: without isolation, nothing is downloaded.
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, ROOT)
    (package,) = directory.glob("*.whl")
    return package


async def download(caller: Caller, presence_id: str, platform: str = "linux_x64") -> zipfile.ZipFile:
    url = f"{caller.url}/api/v4/Presences/{presence_id}/Download/{platform}"
    async with caller.http.get(url, headers=caller.headers) as answer:
        assert answer.status == 200, await answer.text()
        return zipfile.ZipFile(BytesIO(await answer.read()))


class Installation:
    """What is in the archive, below `directory`, with the agent in a virtual environment beside it."""

    def __init__(self, archive: zipfile.ZipFile, directory: Path) -> None:
        archive.extractall(directory)
        (self.home,) = directory.iterdir()
        self._directory = directory

    def install(self) -> None:
        (package,) = self.home.glob("*.whl")
        environment = self.home / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        # In place of the package index: the agent's libraries, and not the agent, are those of the tests.
        (site,) = environment.glob("lib/python3.*/site-packages")
        (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
        _pip("--python", environment / "bin/python", "install", "--no-deps", "--no-index", package)

    @property
    def before(self) -> tuple[str, ...]:
        """For `Program`: runs its command in this directory and with this virtual environment's Python."""
        return ("env", "-C", str(self.home), "sh", "-c", 'shift; exec venv/bin/python "$@"', "sh")

    @property
    def environment(self) -> dict[str, str]:
        """That of INSTALL.txt's try without systemd, and what keeps it apart from whatever else runs here."""
        return {
            "PRESENCE_CONTROL_PLANE__KEY_FILE": "./AppScanPresence.key",
            "PRESENCE_JOURNAL__PATH": "./journal.db",
            "PRESENCE_CONTROL__SOCKET": str(self._directory / "control.sock"),
            "PRESENCE_HEALTH__LISTEN": "[]",
            "PRESENCE_EGRESS__ALLOW": '["127.0.0.1"]',
        }


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
