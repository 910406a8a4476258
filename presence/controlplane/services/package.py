"""What a host inside the network needs to become a presence, as one zip archive.

Settings and units are the files that the agent is shipped with; `bundle/` has links to them.
"""

import io
import json
import stat
import time
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from presence import __version__
from presence.controlplane.services.refusal import Key, Refusal
from presence.logs import get_logger

PLATFORM: Final = "linux_x64"
KEY_FILE: Final = "AppScanPresence.key"
DIRECTORY: Final = f"presence-{PLATFORM}"
_URL = '#url = "wss://presence.example.com"\n'
_NOTE = """\
Presence agent {version}: delivers the webhooks of {host} into this network.

The archive holds {key_file}, a secret: whoever has it can act as this presence. Keep it to root, delete the archive.
Downloading again makes this key void. All commands below run as root, in the directory of this file.

1. Install the agent{which}:

{install}

2. Put the settings and the key in place (the settings name {host}; look at [egress] for what the agent may reach):

   install -D -m 0644 agent.toml /etc/presence/agent.toml
   install -m 0600 {key_file} /etc/presence/presence.key && rm {key_file}
{units}
3. Start it, and look whether it is connected:

   systemctl daemon-reload && systemctl enable --now presence
   systemctl status presence

For a try without systemd, as any user:

   PRESENCE_CONTROL_PLANE__KEY_FILE=./{key_file} presence run --config ./agent.toml
"""
_UNITS = """\
   install -D -m 0644 presence.sysusers.conf /etc/sysusers.d/presence.conf && systemd-sysusers
   install -m 0644 presence.service /etc/systemd/system/presence.service
"""
_VENV = """\
   python3 -m venv /opt/presence
   /opt/presence/bin/pip install {package}
   ln -s /opt/presence/bin/presence /usr/local/bin/presence"""

_WHEEL: Final = f"presence-{__version__}-py3-none-any.whl"
"""What `pip wheel --no-deps .` makes of this tree."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """All but the key: texts by file name, and the agent's package if there is one."""

    texts: dict[str, str]
    agent: tuple[str, bytes] | None

    def pack(self, key: str) -> bytes:
        """The archive, with that key file."""
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in self.texts.items():
                archive.writestr(_entry(name, 0o644), text)
            archive.writestr(_entry(KEY_FILE, 0o600), key)
            if self.agent is not None:
                name, content = self.agent
                # A package is compressed already.
                archive.writestr(_entry(name, 0o644), content, zipfile.ZIP_STORED)
        return written.getvalue()


@dataclass(frozen=True, slots=True)
class Package:
    """`agent`: the file with the agent's package, if the operator has one."""

    agent: Path | None

    def prepare(self, host: str) -> Prepared:
        """The archive's files for agents that reach us at that URL. Reads files: not for the event loop.

        Raises Refusal GENERAL_ERROR where the package cannot be read.
        """
        agent = None if self.agent is None else (self.agent.name, _content(self.agent))
        settings = _bundled("agent.toml")
        assert settings.count(_URL) == 1, "the example's line is where the URL goes"
        texts = {
            "agent.toml": settings.replace(_URL, f"url = {json.dumps(host)}\n"),
            "presence.service": _bundled("presence.service"),
            "presence.sysusers.conf": _bundled("presence.sysusers.conf"),
            "INSTALL.txt": _note(host, self.agent.name if self.agent else None),
        }
        return Prepared(texts, agent)


def key_file(key: str, expires_at: str, host: str) -> str:
    """The key file's text, as `NewKey` gives it."""
    return json.dumps({"Key": key, "ExpiresAt": expires_at, "WebServiceHost": host})


def _note(host: str, package: str | None) -> str:
    if package is not None and package.endswith(".deb"):
        install, units = f"   apt install ./{package}", ""
    else:
        # Never by the name alone: what an index has under it may be somebody else's.
        install, units = _VENV.format(package=f"./{package or _WHEEL}"), _UNITS
    which = "" if package else f" (the archive does not hold it: put {_WHEEL} here, from whoever runs {host})"
    return _NOTE.format(version=__version__, host=host, key_file=KEY_FILE, which=which, install=install, units=units)


def _bundled(name: str) -> str:
    return resources.files("presence.controlplane").joinpath("bundle", name).read_text(encoding="utf-8")


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        _log.error("the agent's package cannot be read", file=str(file), reason=error.strerror)
        raise Refusal(
            Key.GENERAL_ERROR, "the agent's package cannot be read; the operator looks at [server] agent_package"
        ) from None


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(f"{DIRECTORY}/{name}", time.gmtime()[:6])
    entry.external_attr = (stat.S_IFREG | mode) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
