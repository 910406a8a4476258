"""A clock that is set by hand."""


class ManualClock:
    """Satisfies presence.clock.Clock; all figures in milliseconds."""

    def __init__(self, elapsed: int = 1_000_000, wall: int = 1_790_000_000_000, boot: str = "boot-1") -> None:
        self.elapsed_now = self.awake_now = elapsed
        self.wall_now = wall
        self.boot = boot

    def elapsed(self) -> int:
        return self.elapsed_now

    def awake(self) -> int:
        return self.awake_now

    def wall(self) -> int:
        return self.wall_now

    def boot_id(self) -> str:
        return self.boot

    def pass_time(self, milliseconds: int) -> None:
        self.elapsed_now += milliseconds
        self.awake_now += milliseconds
        self.wall_now += milliseconds
