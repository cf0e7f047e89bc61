"""The steps of a fit in which something takes place that is too dear for every step."""

from __future__ import annotations


class Rounds:
    """Every so many steps, between two of them.

    Args:
        owner: whose rounds these are, for messages.
        every: steps between two rounds.
        begin, end: steps between which rounds take place, ``end`` excluded; None goes on to the end.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(self, owner: str, every: int, begin: int, end: int | None) -> None:
        if every < 1 or begin < 0 or (end is not None and end <= begin):
            raise ValueError(
                f"{owner}: every is {every}, begin {begin} and end {end}, expected at least 1, at least 0, and later "
                "than begin"
            )
        self.every, self.begin, self.end = every, begin, end

    def due(self, step: int) -> bool:
        """Whether ``step`` is one of them."""
        return step >= self.begin and (self.end is None or step < self.end) and (step - self.begin) % self.every == 0
