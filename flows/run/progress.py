"""How far an experiment is: stages done of all, and how long the rest takes, as far as that is known."""

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import NamedTuple, Protocol

from flows.plan.stages import Stage


class Ended(Protocol):
    """What is known of a stage that has an outcome."""

    status: str
    seconds: float


class Progress(NamedTuple):
    """Stages that have ended, and all; seconds that are left at least, and stages left of which nothing is known."""

    done: int
    stages: int
    seconds: float
    unknown: int

    @property
    def percent(self) -> float:
        return 100 * self.done / self.stages if self.stages else 100.0

    def told(self) -> str:
        """A line's end: what is done, and what is left."""
        said = f"stage {self.done} of {self.stages}"
        if self.done == self.stages or not (self.seconds or self.unknown):
            return said
        if not self.seconds:
            return f"{said}, nothing known yet of the time left"
        least = f", and {self.unknown} of a kind that has not run" if self.unknown else ""
        return f"{said}, about {duration(self.seconds)} left{least}"


def progress(stages: Iterable[Stage], due: Iterable[str], outcomes: Mapping[str, Ended], *, workers: int) -> Progress:
    """Count stages, and estimate the rest: each that is due as long as its notebook took on average in this run.

    `due` are the ids of stages that were to run. Stages that run now count whole, and `workers` share the work evenly,
    so that the estimate errs to the long side at first and to the short side where stages wait for each other.
    """
    stages, due = list(stages), set(due)
    took: dict[str, list[float]] = {}
    for stage in stages:
        if stage.id in outcomes and outcomes[stage.id].status == "ran":
            took.setdefault(stage.notebook.stem, []).append(outcomes[stage.id].seconds)
    left = [stage.notebook.stem for stage in stages if stage.id in due and stage.id not in outcomes]
    seconds = sum(fmean(took[kind]) for kind in left if kind in took) / min(workers, max(len(left), 1))
    done = sum(stage.id in outcomes and outcomes[stage.id].status != "not run" for stage in stages)
    return Progress(done, len(stages), seconds, sum(kind not in took for kind in left))


def duration(seconds: float) -> str:
    """A time in words: its seconds below a minute and a half, else whole minutes, or hours and minutes."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
