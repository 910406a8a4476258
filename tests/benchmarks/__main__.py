"""Runs the benchmarks by name (all without one); a table on standard output, one JSON object in a file."""

import argparse
import asyncio
import json
from pathlib import Path

from tests.benchmarks import agent, cli, isolation, latency, matching

BENCHMARKS = {
    "agent": agent.measure,
    "latency": latency.measure,
    "isolation": isolation.measure,
    "matching": matching.measure,
    "cli": cli.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for name in options.names or BENCHMARKS:
        figures |= {f"{name}.{figure}": value for figure, value in asyncio.run(BENCHMARKS[name]()).items()}
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:>12.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
