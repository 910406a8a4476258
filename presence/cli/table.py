"""Plain text for a person: aligned columns, durations in words. Colours are lost by click where nobody sees them."""

import re
from collections.abc import Sequence

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """One line for the head and one for each row; columns are as wide as their longest cell."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def duration(seconds: float | None) -> str:
    """The two largest units of it, as "2 h 5 min"; "-" for None."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(filter(None, parts[:2]))


def parse_duration(text: str) -> float:
    """Seconds of "90s", "15m", "2h", "1h30m" or "1d"; raises ValueError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"'{text}' is no duration; write for example 90s, 15m, 2h, 1h30m or 1d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
