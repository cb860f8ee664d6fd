"""What the tables say, in sentences: the best method, by how much, where it loses, and what cannot be told."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flows.report.words import EVERYTHING, FLOOR, LEARNED, UNTRAINED, kind_of, sees
from slidesieve.answers.names import called

Row = dict[str, str]
SEEDS = 5  # fewer say nothing of a method
WIDE = 0.10  # half an interval: wider tells little apart
FEW = 30  # questions
CLOSE = 0.1  # operations that are nearer are the same
ALL, BROAD = "all", ("evidence", "coverage", "composition")


class Loss(NamedTuple):
    """A method below its best floor in one group of questions."""

    group: str
    method: str
    k: str
    said: str


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


def findings(scores: Sequence[Row], rivals: Sequence[Row], floors: Sequence[Row]) -> list[str]:
    """Sentences about a table of scores (a row a method, k and group), its best rivals and its best floors.

    Empty where no method is scored on all questions.
    """
    whole = [row for row in scores if row["group"] == ALL]
    methods = [row for row in whole if kind_of(row["method"]) in (LEARNED, UNTRAINED)]
    if not methods:
        return []
    best = max(methods, key=_accuracy)
    everything = max((row for row in whole if kind_of(row["method"]) == EVERYTHING), key=_accuracy, default=None)
    beside = f"; {_everything(everything)}" if everything else ""
    own_rivals, few = [row for row in (*rivals, *floors) if _of(row) == (ALL, best["method"], best["k"])], _few(best)
    told = any(row["verdict"].startswith(("above", "below")) for row in own_rivals)
    open_still = few and (int(best["n_questions"]) < FEW or not told)
    rank = "is the best" if _seeds(best) >= SEEDS else "scored highest, in these runs,"
    rank = "has the most right" if open_still else rank
    among = f"{rank} of the methods that choose or compress" if len(methods) > 1 else "is the one method here"
    said = [f"Too few to tell: {few}"] if open_still else []
    said += [
        f"{named(best)} {among}: {percent(best['accuracy'])} ({interval(best)}) of {best['n_questions']} questions "
        f"about {best['n_slides']} slides are answered correctly{beside}."
    ]
    without = {} if int(best["n_questions"]) >= FEW else {"verdict": ""}  # of so few none stands
    rivals, floors = ([row | without for row in rows] for rows in (rivals, floors))
    said += _lead(best, methods, rivals)
    unpaired = _without_pairs(best, whole, floors)
    said += _floor(best, floors, of="its best floor that has as many answers" if unpaired else "its best floor")
    said += unpaired + _by_kind(best, scores, rivals, floors)
    lost = losses(scores, floors)
    own = [loss for loss in _once(lost) if (loss.method, loss.k) == (best["method"], best["k"]) and loss.group != ALL]
    said += [loss.said for loss in own[:4]]
    others = [loss for loss in lost if loss not in own and loss.group == ALL and loss.method != best["method"]]
    said += [loss.said for loss in others[:4]]
    if floors and not lost:
        said.append("On no kind of question is a method told apart below its best floor.")
    return said + _doubts(best, methods, "" if open_still else few)


def losses(scores: Sequence[Row], floors: Sequence[Row]) -> list[Loss]:
    """Where a method stands below the best of its floors: told apart, or by more than half of its own interval."""
    shown = {_of(row): row for row in scores}
    found = []
    for row in floors:
        own = shown.get(_of(row))
        other = next((r for r in scores if (r["group"], r["method"]) == (row["group"], row["other"])), None)
        if not own or not row["difference"] or float(row["difference"]) >= 0 or kind_of(row["method"]) == EVERYTHING:
            continue
        told = row["verdict"].startswith("below")
        if not told and -float(row["difference"]) < (float(own["ci_high"]) - float(own["ci_low"])) / 2:
            continue
        theirs = f" ({percent(other['accuracy'])})" if other else ""
        surely = "" if told else ", though the two are not told apart"
        more = _higher_floors(scores, own, row["other"])
        where = f"On {row['group']}{' questions' if row['group'] == ALL else ''} "
        below = f"{points(row)} below {called(row['other'])}{theirs}, which is a floor{surely}{more}."
        said = f"{where}{named(row)} loses: {percent(own['accuracy'])}, {below}"
        found.append(Loss(row["group"], row["method"], row["k"], said))
    return found


def _higher_floors(scores: Sequence[Row], own: Row, known: str) -> str:
    """Floors that stand above a method beside the known best one, in words, or nothing."""
    floors = [r for r in scores if r["group"] == own["group"] and kind_of(r["method"]) == FLOOR]
    floors = [r for r in floors if r["k"] in (own["k"], "", "0") and _accuracy(r) > _accuracy(own)]
    floors = [r for r in floors if r["method"] != known]
    told = [f"{called(r['method'])} ({percent(r['accuracy'])})" for r in sorted(floors, key=_accuracy, reverse=True)]
    return f"; {' and '.join(told)} scored no lower, untested" if told else ""


def _everything(everything: Row) -> str:
    """What all tiles answer, which are more tokens; no verdict is made of these two."""
    return f"all tiles answer {percent(everything['accuracy'])}"


def _once(lost: Sequence[Loss]) -> list[Loss]:
    """Leave out a loss that was told of other words for the same questions."""
    told: dict[str, Loss] = {}
    for loss in lost:
        told.setdefault(loss.said.partition(named({"method": loss.method, "k": loss.k}))[2], loss)
    return list(told.values())


def _lead(best: Row, methods: Sequence[Row], rivals: Sequence[Row]) -> list[str]:
    """How far the best that has learnt is from the best that has not."""
    learned = [row for row in methods if kind_of(row["method"]) == LEARNED]
    if not learned:
        return ["Nothing here has learnt what to keep."]
    if len(learned) == len(methods):
        return ["No rival was run beside it, so whether learning to choose pays here is not known."]
    first = max(learned, key=_accuracy)
    row = next(
        (
            r
            for r in rivals
            if (r["group"], r["method"], r["k"]) == (ALL, first["method"], first["k"]) and r["difference"]
        ),
        None,
    )
    if not row:
        return []
    answers = "" if first is best else f", the best that has learnt, answers {percent(first['accuracy'])}, and"
    who, way = f"{named(first)}{answers}", _way(row)
    rival = called(row["other"]) + (f" (k = {row['other_k']})" if row["other_k"] != row["k"] else "")
    alone = row.get("n_rivals") == "1"
    of = "the one rival that was run" if alone else "the best rival"
    return [f"{who} is {points(row)} {way} {rival}, {of}: {_verdict(row)}{_cost(row)}."]


def _cost(row: Row) -> str:
    """What an answer costs beside the rival's, where it is more than a tenth apart; "" where it is not known."""
    ratio = 1 / float(row.get("tflops_ratio") or "nan")
    return f". An answer takes {ratio:.2g} times the rival's operations" if abs(ratio - 1) > CLOSE else ""


def _floor(best: Row, floors: Sequence[Row], *, of: str) -> list[str]:
    row = next((r for r in floors if _of(r) == (ALL, best["method"], best["k"])), None)
    if not row or not row["difference"]:
        return ["No trained floor was run beside it, so nothing shows that it looks at the slide."]
    if row["verdict"].startswith("above"):
        return [f"{named(best)} is {points(row)} above {of}, {called(row['other'])}: {_verdict(row)}."]
    way = _way(row)
    chooses = "has learnt what to keep" if kind_of(best["method"]) == LEARNED else "chooses better than nothing would"
    return [
        f"{named(best)} is {points(row)} {way} {of}, {called(row['other'])}: {_verdict(row)}. "
        f"So nothing here shows that it {chooses if sees(row['other']) else 'looks at the slide'}."
    ]


def _by_kind(best: Row, scores: Sequence[Row], rivals: Sequence[Row], floors: Sequence[Row]) -> list[str]:
    """What the sum is of, and each broad kind: beside the best rival, and where it is above its best floor."""
    run = (best["method"], best["k"])
    parts = {row["group"]: row for row in scores if (row["method"], row["k"]) == run and row["group"] in BROAD}
    own = [row for row in floors if (row["method"], row["k"]) == run and row["group"] in parts]
    counted = " and ".join(f"{row['n_questions']} about {group}" for group, row in parts.items())
    said = [f"The figures above mix {counted}; below, each kind by itself."] if len(parts) > 1 else []
    for row in own:
        answers = f"On {row['group']} alone {named(best)} answers {percent(parts[row['group']]['accuracy'])}"
        found = [r for r in rivals if _of(r) == _of(row) and r["difference"]][:1]
        beside = [f"{points(r)} {_way(r)} {called(r['other'])}, the best rival ({_verdict(r)})" for r in found]
        if row["difference"] and float(row["difference"]) >= 0:
            beside.append(f"{points(row)} above {called(row['other'])}, the best floor ({_verdict(row)})")
        said += [f"{answers}, {', and '.join(beside)}."] if beside else []
    return said


def _way(row: Row) -> str:
    return "above" if float(row["difference"]) >= 0 else "below"


def _without_pairs(best: Row, whole: Sequence[Row], floors: Sequence[Row]) -> list[str]:
    """The highest floor above the best that no verdict names, as one of another coverage is compared with nothing."""
    paired = {row["other"] for row in floors}
    higher = [r for r in whole if kind_of(r["method"]) == FLOOR and _accuracy(r) > _accuracy(best)]
    higher = [row for row in higher if row["method"] not in paired]
    if not higher:
        return []
    row = max(higher, key=_accuracy)
    of = f"{percent(row['coverage'])} of the questions for {percent(best['coverage'])}"
    answered = f", with answers to {of}," if row["coverage"] != best["coverage"] else ""
    return [
        f"{called(row['method'])}, a floor, stands above {named(best)} at {percent(row['accuracy'])}{answered} and "
        "was not compared question by question."
    ]


def _verdict(row: Row) -> str:
    if row["verdict"].startswith("not told apart") or not row["verdict"]:
        return "the two are not told apart" + row["verdict"].removeprefix("not told apart")
    return "told apart" + row["verdict"].removeprefix("above").removeprefix("below")


def _few(best: Row) -> str:
    """What so few questions or slides cannot tell; empty where they are enough."""
    half = (float(best["ci_high"] or "nan") - float(best["ci_low"] or "nan")) / 2
    if int(best["n_questions"]) >= FEW and not half > WIDE:
        return ""
    chance = f"differences under {100 * half:.0f} points could be chance" if half == half else "no interval is known"
    return f"of {best['n_questions']} questions about {best['n_slides']} slides, {chance}."


def _doubts(best: Row, methods: Iterable[Row], few: str) -> list[str]:
    said, seeds = [], _seeds(best)
    if seeds < SEEDS:
        runs = "One seed was trained" if seeds == 1 else f"{seeds} seeds were trained"
        said.append(f"{runs}: another training may say otherwise, and verdicts on methods need {SEEDS}.")
    said += [f"Small differences cannot be told here: {few}"] if few else []
    least = min(float(row["coverage"]) for row in methods)
    if least < 1:
        said.append(f"{percent(1 - least)} of the questions are about slides without features, and count as wrong.")
    return said


def _seeds(row: Row) -> int:
    return int(row.get("n_seeds") or 1)


def _of(row: Row) -> tuple[str, str, str]:
    return row["group"], row["method"], row["k"]


def _accuracy(row: Row) -> float:
    return float(row["accuracy"])
