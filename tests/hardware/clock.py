"""A clock that only waiting moves."""


class Clock:
    """A clock that only waiting moves."""

    def __init__(self, start: float = 1_760_000_000.0) -> None:
        self.time = start

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def now(self) -> float:
        return self.time
