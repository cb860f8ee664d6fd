"""Work that several processes divide: each takes its part, and sums are over all of them."""

from collections.abc import Sequence
from typing import NamedTuple

from accelerate.utils import gather_object


class Share(NamedTuple):
    """Process `rank` of so many; alone unless said."""

    rank: int = 0
    processes: int = 1

    def of(self, items: Sequence) -> list:
        """This process's part: every item is in exactly one, and neighbours are in different ones."""
        return list(items[self.rank :: self.processes])

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over all processes, the same on every one; all of them must call."""
        parts = gather_object([numbers]) if self.processes > 1 else [numbers]
        return [sum(column) for column in zip(*parts, strict=True)]
