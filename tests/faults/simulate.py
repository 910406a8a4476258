"""Both ends of the protocol in memory, driven by a seed through crashes, cuts, repeats and reorderings.

The model and what must hold are those of tests/unit/protocol/test_simulation.py. A seed that failed is printed;
written into seeds.txt, it is played in every run from then on.
"""

import asyncio
import os
import random
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.faults.findings import Findings
from tests.unit.protocol.test_simulation import DISTURBANCES, REGULAR, TAMPERING, play

KEPT = Path(__file__).with_name("seeds.txt")
RANGE = 1 << 32


class Played(NamedTuple):
    """What one seed brought; `fault` is empty if all held."""

    seed: int
    deliveries: int
    faults: int
    sessions: int
    violations: int
    fault: str


class Schedule:
    """The steps of a seed: how many, how disturbed and whether frames are tampered with, comes from the seed, too."""

    def __init__(self, seed: int) -> None:
        source = self._source = random.Random(seed)
        self._length = source.choice((200, 1000, 3000))
        weights = [(REGULAR, source.choice((5, 15, 40))), (DISTURBANCES, source.choice((1, 2)))]
        weights.append((TAMPERING, source.choice((0, 0, 2, 6))))
        self._steps = [step for group, weight in weights for step in group * weight]
        self.faults = 0

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for _ in range(self._length):
            step = self._source.choice(self._steps)
            self.faults += step not in REGULAR
            yield step, self._source.randrange(1_000)


def play_seed(seed: int) -> Played:
    """Plays it to the end, in quiet, where everything must have arrived."""
    schedule = Schedule(seed)
    try:
        world = play(schedule)
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed is what counts
        where = "".join(traceback.format_exception(error)[-2:])
        return Played(seed, 0, schedule.faults, 0, 0, f"{type(error).__name__}: {error}\n{where}")
    violations = sum(world.violations.values())
    return Played(seed, len(world.control_plane.table), schedule.faults, world.agent.epoch, violations, "")


async def simulate(seed: int, large: bool) -> Findings:
    """`--seed` is the first: the seeds that are played follow from it."""
    source = random.Random(seed)
    new = [source.randrange(RANGE) for _ in range(10_000 if large else 200)]
    kept = [int(line.partition("#")[0]) for line in KEPT.read_text().splitlines() if line.partition("#")[0].strip()]
    with ProcessPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as processes:
        loop = asyncio.get_running_loop()
        return _sum_up(seed, await loop.run_in_executor(None, _play_all, processes, [*kept, *new]), len(kept))


def _play_all(processes: ProcessPoolExecutor, seeds: list[int]) -> list[Played]:
    return list(processes.map(play_seed, seeds, chunksize=10))


def _sum_up(seed: int, played: Iterable[Played], kept: int) -> Findings:
    found = Findings(seed)
    found.figures = {"seeds": 0, "kept_seeds": kept, "sessions": 0, "violations_noticed": 0}
    for one in played:
        found.deliveries += one.deliveries
        found.faults += one.faults
        found.figures["seeds"] += 1
        found.figures["sessions"] += one.sessions
        found.figures["violations_noticed"] += one.violations
        found.expect(not one.fault, f"seed {one.seed}, to be kept in {KEPT.name}: {one.fault}")
    return found
