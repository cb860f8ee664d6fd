"""Cases of the report: what 78 chose and drew, with what each method answered."""

import re
import shutil
from pathlib import Path

from flows.plan.stages import Stage
from flows.report.tables import read_table
from flows.report.words import CONTROL, FLOOR, drawn, kind_of
from slidesieve.answers.names import run_name
from slidesieve.provenance.files import ROOT

NOTEBOOK, TABLE = "78_show_cases", "cases.csv"
TOLD = ("case", "why", "others", "ID", "slide_id", "question", "options", "key")
RUN = re.compile(r"(.+) \(k = (\d+), seed (\d+)\)")


def cases(stages: list[Stage], folder: Path) -> list[dict[str, object]]:
    """Read the cases of an experiment and copy their pictures into the report's folder; none if there are none."""
    stage = next((stage for stage in stages if stage.notebook.stem == NOTEBOOK), None)
    if stage is None or not (ROOT / stage.out_dir / TABLE).exists():
        return []
    found = []
    for row in read_table(ROOT / stage.out_dir / TABLE):
        picture = ROOT / stage.out_dir / f"case_{int(row['case']):02}.jpg"
        if picture.exists():
            shutil.copy(picture, folder / picture.name)
        told = {name: row[name] for name in TOLD}
        options = [option for option in row["options"].split("; ") if option]
        answers = _answers(row)
        shown = {"options": options, "picture": picture.name * picture.exists(), "answers": answers}
        found.append(told | shown | {"lost": _lost(answers, len(options)), "kept": _kept(row)})
    return found


def _kept(row: dict[str, str]) -> str:
    """Say how many of the planted tiles that the question is about were kept, where that is known."""
    n, kept = row.get("about", ""), row.get("kept", "")
    if not n or not kept:
        return ""
    return f"Of the {n} planted tile{'s' * (n != '1')} that this question is about, {kept} kept."


def _lost(answers: list[dict[str, object]], n_options: int) -> str:
    """Say which floors are right, in most of their seeds, where the first method is wrong in most of its own."""
    mostly = [2 * answer["said"].count(answer["right"]) > len(answer["said"]) for answer in answers]
    floors = [a["method"] for a, right in zip(answers, mostly, strict=True) if right and a["floor"]]
    if not floors or mostly[0] or answers[0]["floor"]:
        return ""
    what = "a floor" if len(floors) == 1 else "floors"
    lost = f"{answers[0]['method']} is wrong here, where {what} answered correctly: {', '.join(floors)}."
    return f"{lost} A blind guess among {n_options} options is right one time in {n_options}."


def _answers(row: dict[str, str]) -> list[dict[str, object]]:
    """What each method answered, a method once: of several seeds the letters one after another."""
    said: dict[tuple[str, str], list[str]] = {}
    for column, letter in row.items():
        run = RUN.fullmatch(column)
        if run and letter and kind_of(run[1]) != CONTROL:
            said.setdefault((run[1], run[2]), []).append(letter)
    return [
        {
            "method": run_name(method, int(k)),
            "drawn": drawn(method),
            "floor": kind_of(method) == FLOOR,
            "said": letters,
            "right": row["key"],
        }
        for (method, k), letters in said.items()
    ]
