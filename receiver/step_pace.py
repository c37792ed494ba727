"""How much goes into one transaction of a long piece of work: callbacks wait behind it."""

import msgspec

LEAST_AT_ONCE = 50


class StepPace(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a kind in one step: as many as take about so long."""

    step_seconds: float = 0.01
    least: int = LEAST_AT_ONCE
    most: int = 2000

    def next_rows(self, rows: int, took_seconds: float) -> int:
        """The number of rows for the next step, from the size and the time of the last one."""
        if took_seconds > self.step_seconds:
            return max(self.least, rows // 2)
        return min(self.most, rows * 2) if took_seconds < self.step_seconds / 2 else rows
