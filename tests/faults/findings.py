"""What a run of the fault kit found, and whether that is good enough."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = 20


class NotPossible(Exception):
    """The fault cannot be made on this machine; the text says why."""


@dataclass
class Findings:
    """`lost`: deliveries that were promised and did not arrive; `broken`: bounds that do not hold, in words.

    `figures`: whatever else was measured.
    """

    seed: int
    deliveries: int = 0
    faults: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: int = 0
    broken: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        return not self.lost and not self.broken

    def expect(self, holds: bool, words: str) -> None:
        """Notes a bound that does not hold."""
        if not holds:
            self.broken.append(words)

    def table(self) -> str:
        counted = {"deliveries": self.deliveries, "faults": self.faults, "lost": len(self.lost)}
        rows = counted | {"duplicates": self.duplicates, "seed": self.seed} | self.figures
        lines = [f"{name:<28} {_shown(value)}" for name, value in rows.items()]
        lines += [f"LOST {delivery}" for delivery in self.lost[:SHOWN]]
        if len(self.lost) > SHOWN:
            lines.append(f"... and {len(self.lost) - SHOWN} more, see --json")
        return "\n".join([*lines, *(f"BROKEN {words}" for words in self.broken)])

    def write(self, file: Path) -> None:
        found = {
            "deliveries": self.deliveries,
            "faults": self.faults,
            "lost": len(self.lost),
            "duplicates": self.duplicates,
            "seed": self.seed,
            **self.figures,
            "lost_deliveries": self.lost,
            "broken": self.broken,
        }
        file.write_text(json.dumps(found, indent=2) + "\n")


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
