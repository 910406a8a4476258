"""Installs the Debian package in a container with a booted systemd, and runs the agent there as a service.

Needs root, mmdebstrap and systemd-nspawn, a Debian mirror and the Python Package Index. Exit code 0: all is as it must
be; 1: not so; 3: no such container can be made on this machine.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.boot.container import Container, Failed
from tests.boot.scenarios import ALWAYS, SCENARIOS, UPGRADES
from tests.boot.site import AGENT, CONTROL_PLANE, Site, prepare

SMALL, LARGE = 30, 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.boot", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all if none is given: {', '.join(SCENARIOS)}")
    parser.add_argument("--large", action="store_true", help=f"{LARGE} deliveries at a time instead of {SMALL}")
    parser.add_argument("--package", type=Path, metavar="FILE", help="this one, instead of two built from this tree")
    options = parser.parse_args()
    if options.package and UPGRADES & set(options.names or SCENARIOS):
        parser.error(
            f"with --package there is nothing to upgrade to; name scenarios other than {' and '.join(UPGRADES)}"
        )
    if unknown := set(options.names) - SCENARIOS.keys():
        parser.error(f"no such scenario: {', '.join(unknown)}")
    missing = [name for name in ("mmdebstrap", "systemd-nspawn", "dpkg-deb", "nsenter") if not shutil.which(name)]
    if os.getuid() or missing:
        reason = (
            f"{', '.join(missing)} missing; apt-get install mmdebstrap systemd-container" if missing else "not root"
        )
        print(f"not possible on this machine: {reason}", file=sys.stderr)
        return 3
    chosen = [name for name in SCENARIOS if not options.names or name in options.names or name in ALWAYS]
    with tempfile.TemporaryDirectory(prefix="presence-boot-") as directory:
        return run(Path(directory), options.package, chosen, LARGE if options.large else SMALL)


def run(directory: Path, package: Path | None, chosen: list[str], count: int) -> int:
    started = time.monotonic()

    def tell(name: str, what: str) -> None:
        nonlocal started
        print(f"{name:<10} {time.monotonic() - started:5.1f} s  {what}", flush=True)
        started = time.monotonic()

    root, packages = prepare(directory, package)
    tell("prepared", ", ".join(sorted({package.name for package in packages})))
    with Container(root) as container:
        site = Site(container, packages)
        tell("booted", container("systemctl", "--version").splitlines()[0])
        try:
            site.install_control_plane()
            tell("pip", "the control plane installed and initialised as its unit's head says")
            for name in chosen:
                tell(name, SCENARIOS[name](site, count))
        except Failed as failure:
            tell("FAILED", str(failure))
            for unit in (AGENT, CONTROL_PLANE):
                print(f"--- {unit}:\n" + "\n".join(container.log_of(unit).splitlines()[-25:]))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
