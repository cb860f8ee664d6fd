"""compare.html: experiments beside each other, out of `slidesieve.experiments`; beside it compare.csv and runs.csv.

Two or more experiments that are named are compared with the first; those of a folder each with the one before it.
"""

from collections.abc import Sequence
from pathlib import Path

from flows.plan.notebooks import NOTEBOOKS
from flows.report.folder import swapped_in
from flows.report.index import rendered
from flows.report.words import drawn
from slidesieve.answers.names import called, run_name
from slidesieve.compressors.registry import FLOORS
from slidesieve.provenance.files import written_whole
from slidesieve.provenance.parameters import read_parameters

KIND, PAGE = "comparison", "compare.html"
STEP = 0.1  # the scale of a table's differences ends at a multiple of it
MOVED = "What moved since last time"


def write_comparison(
    places: Sequence[Path], out: Path, *, named: Sequence[tuple[str, str]] = (), draws: int, seed: int
) -> list[str]:
    """Write `out` from what lies in `places`; return what to say in a terminal, the page's path last.

    `named` are further pairs of methods, (earlier's, later's). Raises ValueError or FileNotFoundError if no experiment
    can be read, a method is not there, or `out` is not ours.
    """
    from slidesieve.experiments import beside, found, history  # pandas and scipy: a second

    there = found.find(places)
    scheduled = len(places) == 1
    if scheduled and named:
        raise ValueError("compare: got --pair and one folder; expected experiments by name, two or more; name them")
    first, *others = there.experiments
    steps = history.steps(there.experiments) if scheduled else [(first, other) for other in others]
    how = {"draws": draws, "seed": seed}
    tables = [beside.beside(a, b, beside.pairs_of(a, b, named), **how) for a, b in steps]
    runs = history.history(there.experiments, **how)
    moved = history.moved(runs) if scheduled else []
    pairs = [_pair(*step, table) for step, table in zip(steps, tables, strict=True)]
    with swapped_in(out, KIND, PAGE) as folder:
        beside.joined(tables).to_csv(folder / "compare.csv", index=False)
        runs.to_csv(folder / "runs.csv", index=False)
        with written_whole(folder / PAGE) as aside:
            page = {"moved": moved, "moved_title": MOVED, "pairs": pairs[::-1] if scheduled else pairs}
            page |= {"runs": [_run(row) for row in runs.to_dict("records")], "unread": there.unread}
            page |= {"scheduled": scheduled, "names": [one.name for one in there.experiments]}
            aside.write_text(_rendered(page, places), encoding="utf-8")
    said = [f"not read: {name}: {why}" for name, why in there.unread]
    for heading, sentences in moved or [(pair["title"], pair["sentences"]) for pair in pairs]:
        said += [f"{heading}:", *(f"  {sentence}" for sentence in sentences)]
    return [*said, str(out / PAGE)]


def _rendered(page: dict[str, object], places: Sequence[Path]) -> str:
    title = f"Experiments in {places[0].resolve().name}" if page["scheduled"] else "Experiments beside each other"
    return rendered("compare.html.j2", **page, title=title)


def _pair(before, after, table) -> dict[str, object]:
    """One experiment beside another: what differs between them, in words, and the scores by kind of question."""
    from slidesieve.experiments import history, settings

    told = settings.compare_settings(before, after)
    rows = [row | {"name": run_name(row["method"], row["k"])} for row in table.to_dict("records")]
    known = [_score(row) for row in rows if row["difference"] == row["difference"]]
    names = dict.fromkeys(row["group"] for row in known)
    groups = [
        {"name": name, "rows": (own := [row for row in known if row["group"] == name]), "most": _most(own)}
        for name in names
    ]
    sentences = history.sentences(table[table["group"] == "all"]) if rows else ["They have no method in common."]
    return {
        "title": f"{after.name} beside {before.name}",
        "before": before.name,
        "after": after.name,
        "sentences": sentences,
        "settings": [setting._asdict() | {"help": _help(setting.what, setting.where)} for setting in told.differing],
        "same": told.same,
        "groups": groups,
        "notes": list(dict.fromkeys(row["note"] for row in known if row["note"])),
    }


def _score(row: dict) -> dict[str, object]:
    other = run_name(row["method_before"], row["k_before"])
    return row | {
        "other": other if other != row["name"] else "",
        "floor": row["method"].startswith(FLOORS),
        "drawn": drawn(row["method"]),
    }


def _most(rows: list[dict]) -> float:
    """The end of a table's scale: a whole multiple of STEP that holds every interval."""
    ends = [abs(row[name]) for row in rows for name in ("difference", "ci_low", "ci_high") if row[name] == row[name]]
    return STEP * max(1, -int(-max(ends, default=0) // STEP))


def _run(row: dict) -> dict[str, object]:
    from slidesieve.experiments.history import FLOORS as BESIDE

    floors = {called(name): row[name] for name in BESIDE}
    known = ", ".join(f"{name} {100 * value:.1f}" for name, value in floors.items() if value == value)
    return row | {
        "name": run_name(row["method"], row["k"]),
        "floors": known,
        "floor": row["method"].startswith(FLOORS),
        "judged": row["difference"] == row["difference"],
    }


def _help(what: str, where: str) -> str:
    """What a parameter is, by the first of the notebooks that have it; "" of anything else."""
    notebook = NOTEBOOKS / f"{where.partition(',')[0].partition(' ')[0]}.ipynb"
    known = read_parameters(notebook) if where and notebook.is_file() else {}
    return known[what].help.removeprefix("in: ") if what in known else ""
