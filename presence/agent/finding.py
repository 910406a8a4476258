"""What one of doctor's checks found."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` names what was looked at, `text` says what was found, `remedy` what to do about it. No secrets."""

    check: str
    verdict: Verdict
    text: str
    remedy: str | None = None


def ok(check: str, text: str) -> Finding:
    return Finding(check, Verdict.OK, text)


def warning(check: str, text: str, remedy: str) -> Finding:
    return Finding(check, Verdict.WARNING, text, remedy)


def failed(check: str, text: str, remedy: str) -> Finding:
    return Finding(check, Verdict.FAILED, text, remedy)


def skipped(check: str, text: str) -> Finding:
    return Finding(check, Verdict.SKIPPED, text)


def unless(faults: list[Finding], fine: Finding) -> list[Finding]:
    """The faults; where there are none, what is fine."""
    return faults or [fine]
