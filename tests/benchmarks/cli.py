"""How long the command line takes to say its help: what a person waits for, and a shell at each completion. Seconds."""

import asyncio
import statistics
import sys
import time

RUNS, WARM_UP = 30, 3


async def measure() -> dict[str, float]:
    """`help_seconds`: the median of `presence --help` from its start to its end, the interpreter's own included."""
    took = []
    for _ in range(WARM_UP + RUNS):
        began = time.perf_counter()
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "presence", "--help", stdout=asyncio.subprocess.DEVNULL
        )
        assert await program.wait() == 0
        took.append(time.perf_counter() - began)
    return {"help_seconds": statistics.median(took[WARM_UP:])}


if __name__ == "__main__":
    print(asyncio.run(measure()))
