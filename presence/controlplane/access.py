"""Who asks, and for which organization."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated user. Every query that a request causes is bounded by `organization_id`."""

    user_id: str
    organization_id: str


@dataclass(frozen=True, slots=True)
class Peer:
    """An authenticated agent: the presence whose key it showed. Milliseconds since the Unix epoch."""

    organization_id: str
    presence_id: str
    key_id: str
    key_expires_at: int
