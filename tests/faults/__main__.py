"""Runs one kind of fault; a table on standard output. Exit code 0: nothing was lost and every bound holds;
1: not so, the table says what; 3: the fault cannot be made on this machine.
"""

import argparse
import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.faults import clock, crash, database, disk, link, power, simulate, soak
from tests.faults.findings import Findings, NotPossible
from tests.support.disk import in_mount_namespace

Fault = Callable[[int, bool], Awaitable[Findings]]
FAULTS: dict[str, Fault] = {
    "agent-crash": crash.agent_crash,
    "control-plane-crash": crash.control_plane_crash,
    "postgres": database.postgres_crash,
    "link-cut": link.link_cut,
    "power-cut": power.power_cut,
    "disk": disk.disk,
    "clock": clock.clock,
    "simulate": simulate.simulate,
    "soak": soak.soak,
}
MOUNTING = ("power-cut", "disk")
"""They run in a mount namespace of their own."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("name", choices=FAULTS, metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--large", action="store_true", help="as many as before a release; takes its time")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, metavar="N", help="repeats the choices of a run")
    options = parser.parse_args()
    if options.name in MOUNTING and (reason := in_mount_namespace()):
        return not_possible(reason)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"{options.name}, seed {seed}", flush=True)
    started = time.perf_counter()
    try:
        found = asyncio.run(_run(FAULTS[options.name], seed, options.large))
    except NotPossible as reason:
        return not_possible(reason)
    found.figures["seconds"] = time.perf_counter() - started
    if options.json:
        found.write(options.json)
    print(found.table())
    return 0 if found.is_good else 1


async def _run(fault: Fault, seed: int, large: bool) -> Findings:
    """SIGTERM ends it like SIGINT: what it started is ended, too."""
    running = asyncio.ensure_future(fault(seed, large))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await running


def not_possible(reason: object) -> int:
    print(f"not possible here: {reason}")
    return 3


if __name__ == "__main__":
    sys.exit(main())
