"""Where a method stands below its best floor, in a sentence each; and how a row's numbers are said."""

from collections.abc import Sequence
from typing import NamedTuple

from flows.report.words import EVERYTHING, FLOOR, kind_of
from slidesieve.answers.names import called

Row = dict[str, str]
ALL = "all"
TOO_FEW = "too few to tell"  # a verdict of `evaluation.verdicts`


class Loss(NamedTuple):
    """A method below its best floor in one group of questions."""

    group: str
    method: str
    k: str
    said: str


def losses(scores: Sequence[Row], floors: Sequence[Row]) -> list[Loss]:
    """Where a method stands below the best of its floors: told apart, or by more than half of its own interval."""
    shown = {run_of(row): row for row in scores}
    found = []
    for row in floors:
        own = shown.get(run_of(row))
        floor = (row["group"], row["other"], row.get("other_k") or "0")
        other = next((r for r in scores if (r["group"], r["method"], r["k"] or "0") == floor), None)
        if not own or not row["difference"] or float(row["difference"]) >= 0 or kind_of(row["method"]) == EVERYTHING:
            continue
        told = row["verdict"].startswith("below")
        if not told and -float(row["difference"]) < (float(own["ci_high"]) - float(own["ci_low"])) / 2:
            continue
        theirs = f" ({percent(other['accuracy'])})" if other else ""
        doubt = f"these are {TOO_FEW}" if row["verdict"] == TOO_FEW else "the two are not told apart"
        surely = "" if told else f", though {doubt}"
        more = _higher_floors(scores, own, row["other"])
        where = f"On {row['group']}{' questions' if row['group'] == ALL else ''} "
        below = f"{points(row)} below {called(row['other'])}{theirs}, which is a floor{surely}{more}."
        said = f"{where}{named(row)} loses: {percent(own['accuracy'])}, {below}"
        found.append(Loss(row["group"], row["method"], row["k"], said))
    return found


def _higher_floors(scores: Sequence[Row], own: Row, known: str) -> str:
    """Floors that stand above a method beside the known best one, in words, or nothing."""
    floors = [r for r in scores if r["group"] == own["group"] and kind_of(r["method"]) == FLOOR]
    floors = [r for r in floors if r["k"] in (own["k"], "", "0") and accuracy_of(r) > accuracy_of(own)]
    floors = [r for r in floors if r["method"] != known]
    told = [f"{called(r['method'])} ({percent(r['accuracy'])})" for r in sorted(floors, key=accuracy_of, reverse=True)]
    return f"; {' and '.join(told)} scored no lower, untested" if told else ""


def once(lost: Sequence[Loss]) -> list[Loss]:
    """Leave out a loss that was told of other words for the same questions."""
    told: dict[str, Loss] = {}
    for loss in lost:
        told.setdefault(loss.said.partition(named({"method": loss.method, "k": loss.k}))[2], loss)
    return list(told.values())


def percent(value: float | str) -> str:
    """A share as per cent."""
    return f"{100 * float(value):.1f} %"


def interval(row: Row) -> str:
    """An interval of shares, in per cent."""
    return f"{100 * float(row['ci_low']):.1f} to {100 * float(row['ci_high']):.1f}" if row["ci_low"] else "no interval"


def points(row: Row) -> str:
    """A difference without its sign, in points, with its interval."""
    value, low, high = (100 * float(row[name] or "nan") for name in ("difference", "ci_low", "ci_high"))
    low, high = (low, high) if value >= 0 else (-high, -low)
    return f"{abs(value):.1f} points" + (f" ({low:.1f} to {high:.1f})" if low == low else "")


def named(row: Row) -> str:
    """A method with its k, where it has one."""
    return called(row["method"]) + (f" (k = {row['k']})" if row["k"] not in ("", "0") else "")


def run_of(row: Row) -> tuple[str, str, str]:
    return row["group"], row["method"], row["k"]


def accuracy_of(row: Row) -> float:
    return float(row["accuracy"])
