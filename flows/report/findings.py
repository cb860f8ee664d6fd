"""What the tables say, in sentences: the best method, by how much, where it loses, and what cannot be told."""

from collections.abc import Iterable, Sequence

from flows.report.losses import TOO_FEW, Row, accuracy_of, interval, losses, named, once, percent, points, run_of
from flows.report.words import EVERYTHING, FLOOR, LEARNED, UNTRAINED, kind_of, sees
from slidesieve.answers.names import called

SEEDS = 5  # fewer say nothing of a method
WIDE = 0.10  # half an interval: wider tells little apart
FEW = 30  # questions
CLOSE = 0.1  # operations that are nearer are the same
ALL, BROAD = "all", ("evidence", "coverage", "composition")


def findings(
    scores: Sequence[Row], rivals: Sequence[Row], floors: Sequence[Row], duels: Sequence[Row] = ()
) -> list[str]:
    """Sentences about a table of scores (a row a method, k and group), its best rivals, best floors, and all pairs.

    Empty where no method is scored on all questions.
    """
    rivals = sorted(rivals, key=lambda row: row.get("matched_by") != "k")  # the same k before no more operations
    whole = [row for row in scores if row["group"] == ALL]
    methods = [row for row in whole if kind_of(row["method"]) in (LEARNED, UNTRAINED)]
    if not methods:
        return []
    best = max(methods, key=accuracy_of)
    everything = max((row for row in whole if kind_of(row["method"]) == EVERYTHING), key=accuracy_of, default=None)
    beside = f"; {_everything(everything)}" if everything else ""
    own_rivals, few = [row for row in (*rivals, *floors) if run_of(row) == (ALL, best["method"], best["k"])], _few(best)
    told = any(row["verdict"].startswith(("above", "below")) for row in own_rivals)
    open_still = few and (int(best["n_questions"]) < FEW or not told)
    rank = "has the most right" if open_still else _rank(best, methods, duels)
    among = f"{rank} of the methods that choose or compress" if len(methods) > 1 else "is the one method here"
    said = [f"Too few to tell: {few}"] if open_still else []
    said += [
        f"{named(best)} {among}: {percent(best['accuracy'])} ({interval(best)}) of {best['n_questions']} questions "
        f"about {best['n_slides']} slides are answered correctly{beside}."
    ]
    without = {} if int(best["n_questions"]) >= FEW else {"verdict": TOO_FEW}  # of so few none stands
    rivals, floors = ([row | without for row in rows] for rows in (rivals, floors))
    said += _lead(best, methods, rivals)
    unpaired = _without_pairs(best, whole, floors)
    said += _floor(best, floors, of="its best floor that has as many answers" if unpaired else "its best floor")
    said += unpaired + _by_kind(best, scores, rivals, floors)
    lost = losses(scores, floors)
    own = [loss for loss in once(lost) if (loss.method, loss.k) == (best["method"], best["k"]) and loss.group != ALL]
    said += [loss.said for loss in own[:4]]
    others = [loss for loss in lost if loss not in own and loss.group == ALL and loss.method != best["method"]]
    said += [loss.said for loss in others[:4]]
    if floors and not lost:
        said.append("On no kind of question is a method told apart below its best floor.")
    return said + _doubts(best, methods, "" if open_still else few)


def _everything(everything: Row) -> str:
    """What all tiles answer, which are more tokens; no verdict is made of these two."""
    return f"all tiles answer {percent(everything['accuracy'])}"


def _rank(best: Row, methods: Sequence[Row], duels: Sequence[Row]) -> str:
    """Call it the best where it is told apart from the next, over seeds enough."""
    if _seeds(best) < SEEDS:
        return "scored highest, in these runs,"
    own = best["method"], best["k"]
    following = max((row for row in methods if row is not best), key=accuracy_of, default=best)
    pair = own, (following["method"], following["k"])
    for row in (row for row in duels if row["group"] == ALL):
        two = (row["method"], row["k"]), (row["other"], row["other_k"])
        if (two, row["verdict"]) in ((pair, "above"), (pair[::-1], "below")):
            return "is the best"
    return "scored highest"


def _lead(best: Row, methods: Sequence[Row], rivals: Sequence[Row]) -> list[str]:
    """How far the best that has learnt is from the best that has not."""
    learned = [row for row in methods if kind_of(row["method"]) == LEARNED]
    if not learned:
        return ["Nothing here has learnt what to keep."]
    if len(learned) == len(methods):
        return ["No rival was run beside it, so whether learning to choose pays here is not known."]
    first = max(learned, key=accuracy_of)
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
    alone = len({r["method"] for r in methods if kind_of(r["method"]) == UNTRAINED}) == 1
    of = "the one rival that was run" if alone else "the best rival"
    of += " for no more operations" if row.get("matched_by") == "operations" else ""
    return [f"{who} is {points(row)} {way} {rival}, {of}: {_verdict(row)}{_cost(row)}."]


def _cost(row: Row) -> str:
    """What an answer costs beside the rival's, where it is more than a tenth apart; "" where it is not known."""
    ratio = 1 / float(row.get("tflops_ratio") or "nan")
    return f". An answer takes {ratio:.2g} times the rival's operations" if abs(ratio - 1) > CLOSE else ""


def _floor(best: Row, floors: Sequence[Row], *, of: str) -> list[str]:
    row = next((r for r in floors if run_of(r) == (ALL, best["method"], best["k"])), None)
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
        found = [r for r in rivals if run_of(r) == run_of(row) and r["difference"]][:1]
        beside = [f"{points(r)} {_way(r)} {called(r['other'])}, the best rival ({_verdict(r)})" for r in found]
        if row["difference"] and float(row["difference"]) >= 0:
            beside.append(f"{points(row)} above {called(row['other'])}, the best floor ({_verdict(row)})")
        said += [f"{answers}, {', and '.join(beside)}."] if beside else []
    return said


def _way(row: Row) -> str:
    return "above" if float(row["difference"]) >= 0 else "below"


def _without_pairs(best: Row, whole: Sequence[Row], floors: Sequence[Row]) -> list[str]:
    """The highest floor above the best, and above all that a verdict names: another coverage is not compared."""
    paired = {row["other"] for row in floors}
    least = max([accuracy_of(best), *(accuracy_of(row) for row in whole if row["method"] in paired)])
    higher = [r for r in whole if kind_of(r["method"]) == FLOOR and accuracy_of(r) > least]
    if not higher:
        return []
    row = max(higher, key=accuracy_of)
    of = f"{percent(row['coverage'])} of the questions for {percent(best['coverage'])}"
    answered = f", with answers to {of}," if row["coverage"] != best["coverage"] else ""
    return [
        f"{called(row['method'])}, a floor, stands above {named(best)} at {percent(row['accuracy'])}{answered} and "
        "was not compared question by question."
    ]


def _verdict(row: Row) -> str:
    if row["verdict"] == TOO_FEW:
        return TOO_FEW
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
