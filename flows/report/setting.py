"""What was run: cohort, tiles, encoder, language model, tokens, one of the questions, command, commit, versions."""

import shlex
import sys
from collections import Counter
from pathlib import Path

from flows.plan.sources import FEATURES, TILES
from flows.plan.stages import Stage, values_of
from flows.report.tables import read_table
from flows.report.words import EVERYTHING, kind_of
from slidesieve.answers.names import called
from slidesieve.provenance import places
from slidesieve.provenance.files import RECEIPT, ROOT, read_json

ANSWERED = "60_answer_questions"
SYNTHETIC = "slidesieve.synthetic"  # a manifest's `source` for slides that were drawn
OF_DRAWN = (
    "The slides are drawn, their patients made up, and the evidence planted in few tiles, so that with few tokens it "
    "matters which are kept: a check of the software, whose numbers say nothing about tissue."
)


def setting(stages: list[Stage]) -> list[tuple[str, str]]:
    """Pairs of a word and what it was in this experiment; what is not known is left out."""
    answered = [stage for stage in stages if stage.notebook.stem == ANSWERED]
    first = values_of(answered[0]) if answered else {}
    found = [
        ("Cohort", _cohort(first)),
        ("Tiles", _tiles(stages)),
        ("Encoder", next((str(values_of(s)["encoder"]) for s in stages if s.notebook.stem == FEATURES), "")),
        ("Language model", str(first.get("lm", ""))),
        ("Tokens", _tokens(answered)),
        ("Operations", _operations(answered)),
        ("Questions", str(first.get("questions", ""))),
        ("Guessing", _guessing(answered)),
        ("Command", command()),
        ("Commit", commits(stages)),
        ("Versions", _versions(answered)),
    ]
    return [(word, places.without_places(said)) for word, said in found if said]


def caution(stages: list[Stage]) -> str:
    """What must be known before any number is read: that slides were drawn; empty where they are real."""
    for stage in stages:
        path = ROOT / str(values_of(stage).get("manifest", "")) if stage.notebook.stem == ANSWERED else None
        if path and path.suffix == ".csv" and path.exists():
            sources = {row.get("source") for row in read_table(path)}
            return OF_DRAWN if sources == {SYNTHETIC} else ""
    return ""


def example(stages: list[Stage]) -> dict[str, object] | None:
    """The first question that was answered, its options by letter and the right one; None if there is none."""
    for row in _asked(stages):
        if row.get("Question"):
            return {"question": row["Question"], "options": _options(row), "key": row.get("Answer", "")}
    return None


def _asked(stages: list[Stage]) -> list[dict[str, str]]:
    """Rows of the question table that the first stage with answers answered, in the order of its answers."""
    for stage in (stage for stage in stages if stage.notebook.stem == ANSWERED):
        path, table = ROOT / stage.out_dir / "answers.csv", ROOT / str(values_of(stage).get("questions", ""))
        if path.exists() and table.suffix == ".csv" and table.exists():
            rows = {row.get("ID"): row for row in read_table(table)}
            if found := [rows[id] for id in dict.fromkeys(row["ID"] for row in read_table(path)) if id in rows]:
                return found
    return []


def _options(row: dict[str, str]) -> dict[str, str]:
    return {name: row[name] for name in row if len(name) == 1 and name.isupper() and row[name]}


def _guessing(answered: list[Stage]) -> str:
    """How often a blind choice among the options would be right."""
    counts = [len(_options(row)) for row in _asked(answered)]
    if not counts or not all(counts):
        return ""
    right = sum(1 / n for n in counts) / len(counts)
    return f"a blind choice among the options is right in {100 * right:.1f} % of the questions that were answered"


def command() -> str:
    """The command that is running, as one would type it."""
    script, *words = sys.argv
    of = Path(script)
    door = (
        "slidesieve" if of.name == "slidesieve" else f"python -m flows.{of.stem}" if of.parent.name == "flows" else ""
    )
    return shlex.join([*shlex.split(door), *words]) if door else ""


def commits(stages: list[Stage]) -> str:
    """The commits whose code made the stages, the most frequent first; + where files were changed since."""
    made = [str(_environment(stage).get("commit") or "") for stage in stages]
    counted = Counter(filter(None, made)).most_common()
    if len(counted) == 1 and all(made):
        return counted[0][0]
    return ", ".join(f"{name} ({n} of {len(made)} stages)" for name, n in counted)


def _environment(stage: Stage) -> dict[str, object]:
    """What a stage's receipt says of the machine; empty where it says nothing."""
    try:
        told = read_json(ROOT / stage.out_dir / RECEIPT)["environment"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
    return told if isinstance(told, dict) else {}


def _cohort(values: dict[str, object]) -> str:
    path = ROOT / str(values.get("manifest", ""))
    if not values or path.suffix != ".csv" or not path.exists():
        return str(values.get("manifest", ""))
    rows = read_table(path)
    splits = [row.get("split", "") for row in rows]
    counted = ", ".join(f"{splits.count(split)} {split}" for split in dict.fromkeys(splits) if split)
    patients = len({row.get("case_id") or row.get("slide_id") for row in rows})
    return f"{values['manifest']}: {len(rows)} slides of {patients} patients" + (f" ({counted})" if counted else "")


def _tiles(stages: list[Stage]) -> str:
    for stage in stages:
        if stage.notebook.stem == TILES:
            values = values_of(stage)
            px, mpp = int(values["tile_px"]), float(values["mpp"])
            return f"{px} px at {mpp:g} µm a pixel: {px * mpp:g} µm a side" if px and mpp else ""
    return ""


def _tokens(answered: list[Stage]) -> str:
    """How many tokens stand for how many tiles, with the methods of which that is true."""
    found: dict[str, list[str]] = {}
    for stage in answered:
        path = ROOT / stage.out_dir / "costs.csv"
        for row in read_table(path)[:1] if path.exists() else []:
            tiles, tokens = float(row["n_tiles"]), float(row["visual_tokens"])
            if tokens and kind_of(row["method"]) != EVERYTHING:
                ratio = f", 1 in {tiles / tokens:.0f}" if tiles > tokens else ""
                told = f"{tokens:.0f} for {tiles:.0f} tiles a slide on average{ratio}"
                found.setdefault(told, []).append(called(row["method"]))
    return "; ".join(f"{told}: {', '.join(dict.fromkeys(names))}" for told, names in found.items())


def _operations(answered: list[Stage]) -> str:
    """Operations of an answer by method, in GFLOP; of several runs the first counts."""
    found: dict[str, float] = {}
    for stage in answered:
        path = ROOT / stage.out_dir / "costs.csv"
        for row in read_table(path)[:1] if path.exists() else []:
            if row.get("tflops"):
                found.setdefault(called(row["method"]), 1000 * float(row["tflops"]))
    told = ", ".join(f"{name} {value:.3g}" for name, value in sorted(found.items(), key=lambda item: item[1]))
    return f"GFLOP an answer, compressor to language model, encoder left out: {told}" if told else ""


def _versions(answered: list[Stage]) -> str:
    for stage in answered:
        made = _environment(stage)
        if isinstance(made.get("packages"), dict):
            named = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
            return f"Python {made.get('python', '')}, {named}; {made.get('device', '')}"
    return ""
