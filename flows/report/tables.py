"""The report's tables as they are read: all seeds of a method in one row, the best first, verdicts in points."""

import csv
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from flows.report.losses import Loss
from flows.report.words import KINDS, drawn, kind_of
from slidesieve.answers.names import called, does

VERDICTS = ("best_rival.csv", "best_floor.csv", "head_to_head.csv")  # as `findings` takes them
SHARES = ("recall", "chance", "precision", "least", "most", "coverage")  # told in per cent
RUN = ("seed", "fold", "ci_low", "ci_high")  # columns that belong to a single run


def over_seeds(rows: list[dict[str, str]], score: str) -> list[dict[str, object]]:
    """A row a method, k and group: the mean of every number over seeds (and folds), the least and the most `score`.

    The best score stands first. Rows of one run each stay as they are, with their own intervals. Cells that are empty
    take no part in a mean.
    """
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(name, "") for name in ("group", "method", "k")), []).append(row)
    if all(len(runs) == 1 for runs in found.values()):
        return list(rows)
    return sorted((_together(runs, score) for runs in found.values()), key=lambda row: _place(row, score))


def _together(runs: list[dict[str, str]], score: str) -> dict[str, object]:
    values = [float(row[score]) for row in runs if row[score]]
    told = {"method": runs[0]["method"], "k": runs[0]["k"], "seeds": str(len({row["seed"] for row in runs}))}
    if (folds := len({row.get("fold") for row in runs})) > 1:
        told["folds"] = str(folds)
    for name in runs[0]:
        if name in told or name in RUN:
            continue
        cells = [row[name] for row in runs if row[name]]
        told[name] = cells[0] if len(set(cells)) == 1 else f"{fmean(map(float, cells))}" if cells else ""
        if name == score:
            told |= {"least": f"{min(values)}", "most": f"{max(values)}"} if values else {"least": "", "most": ""}
    return told


def _place(row: dict[str, object], score: str) -> tuple[str, float]:
    return row.get("group", ""), -float(row[score] or "-inf")


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV as rows of strings."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def readable(text: str) -> str:
    """Round a table's number to three decimals; leave words and whole numbers as they are."""
    try:
        return text if text.lstrip("-").isdigit() else f"{float(text):.3f}"
    except ValueError:
        return text


def score_rows(tables: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    """A row a run; where some method has several seeds, a row a method and k, of all its seeds together."""
    pooled = tables.get("over_seeds.csv", [])
    if any(int(row["n_seeds"]) > 1 for row in pooled):
        return [row | {"seed": row["n_seeds"]} for row in pooled]
    return [row | {"seed": "1"} for row in tables.get("scores.csv", [])]


def verdict_groups(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """Each learned method beside the best that needs no training, a table a kind of question, in per cent points.

    A rival that is the best at the same k and for no more operations, with the same verdict, stands there once.
    """
    groups: dict[str, dict[tuple[str, ...], dict[str, str]]] = {}
    for row in sorted(rows, key=lambda row: _reading_order(row["group"])):
        told = _verdict(row)
        key = tuple(value for name, value in told.items() if name != "rival of")
        known = groups.setdefault(row["group"], {}).setdefault(key, told)
        if known is not told:
            known["rival of"] += f", and {told['rival of']}"
    return [{"name": name, "rows": list(found.values())} for name, found in groups.items()]


def with_names(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Call the methods of a table by their names."""
    return [row | ({"method": called(str(row["method"]))} if "method" in row else {}) for row in rows]


def in_words(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Name the methods of a table, say what each does, and give shares in per cent."""
    rows = [_with_interval(row) for row in rows]
    shares = [name for name in SHARES if any(name in row for row in rows)]
    return [
        {"method": called(row["method"]), "what it does": does(row["method"])}
        | {name: _share(value) if name in shares else value for name, value in row.items() if name != "method"}
        | ({"k": ""} if row.get("k") == "0" else {})
        for row in rows
    ]


def _with_interval(row: dict[str, object]) -> dict[str, object]:
    """A row whose interval, if it has one, stands in one column, the last."""
    rest = {name: value for name, value in row.items() if name not in ("ci_low", "ci_high")}
    ends = [row.get(name) for name in ("ci_low", "ci_high")]
    return rest | ({"95 % interval": f"{_share(ends[0])[:-2]} to {_share(ends[1])}"} if all(ends) else {})


def _share(value: object) -> str:
    return f"{100 * float(value):.1f} %" if value not in ("", None) else ""


def open_groups(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """Answers in words, a table a kind of question: means over seeds, best ROUGE-L first; no intervals."""
    kept = ("method", "k", "seed", "n", "coverage", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor")
    names = list(dict.fromkeys(row["group"] for row in rows))
    plain = {name: [{n: row[n] for n in kept} for row in _of(rows, name)] for name in names}
    return [{"name": name, "rows": over_seeds(own, "rouge_l")} for name, own in plain.items()]


def _reading_order(group: str) -> tuple[bool, bool, str]:
    return group != "evidence", group != "all", group


def _verdict(row: dict[str, str]) -> dict[str, str]:
    other_k = f", k = {row['other_k']}" if row["other_k"] != row["k"] else ""
    points = [f"{100 * float(row[name]):+.1f}" for name in ("difference", "ci_low", "ci_high") if row[name]]
    return {
        "method": called(row["method"]),
        "k": row["k"],
        "best rival": called(row["other"]) + other_k,
        "rival of": "the same k" if row["matched_by"] == "k" else "no more operations",
        "operations": f"{1 / float(row['tflops_ratio']):.2g} times the rival's" if row.get("tflops_ratio") else "",
        "difference (95 % interval)": "{} ({} to {})".format(*points) if len(points) == 3 else "".join(points[:1]),
        "verdict": row["verdict"],
    }


def score_groups(rows: list[dict[str, str]], lost: Iterable[Loss] = ()) -> list[dict[str, object]]:
    """Order scores for reading: evidence, then all, then the other groups; in each the kinds of methods, best first.

    A group in which a method loses to a floor says so and stands open.
    """
    groups, lost = _distinct(rows, sorted({row["group"] for row in rows}, key=_reading_order)), list(lost)
    return [
        {
            "name": group,
            "title": " = ".join([group, *same]),
            "n_questions": _of(rows, group)[0]["n_questions"],
            "n_slides": _of(rows, group)[0]["n_slides"],
            "kinds": _kinds(_of(rows, group)),
            "lost": [loss.said for loss in lost if loss.group == group],
        }
        for group, same in groups.items()
    ]


def _distinct(rows: list[dict[str, str]], groups: list[str]) -> dict[str, list[str]]:
    """Groups in order, each with others that are the same questions under another name."""
    found: dict[tuple, list[str]] = {}
    for group in groups:
        told = ("method", "k", "n_questions", "accuracy", "ci_low", "ci_high")
        found.setdefault(tuple(sorted(tuple(row[n] for n in told) for row in _of(rows, group))), []).append(group)
    return {first: same for first, *same in found.values()}


def _kinds(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    own = {kind: [row for row in rows if kind_of(row["method"]) == kind] for kind in KINDS}
    return [
        {"kind": kind, "title": KINDS[kind], "rows": sorted(map(_score, part), key=lambda row: -row["accuracy"])}
        for kind, part in own.items()
        if part
    ]


def _of(rows: list[dict[str, str]], group: str) -> list[dict[str, str]]:
    return [row for row in rows if row["group"] == group]


def _score(row: dict[str, str]) -> dict[str, object]:
    numbers = {n: float(row[n] or "nan") for n in ("accuracy", "ci_low", "ci_high", "coverage")}
    named = {"name": called(row["method"]), "does": does(row["method"]), "drawn": drawn(row["method"])}
    return row | numbers | named
