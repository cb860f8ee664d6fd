"""Finished experiments with answers of known quality, without a notebook: what stages 60 and 80 leave, and receipts."""

import json
from pathlib import Path

import pandas as pd
from fake_runs import write_cohort, write_run

from slidesieve.answers.tables import read_answers
from slidesieve.datasets.questions import read_questions
from slidesieve.evaluation.ledger import ledger
from slidesieve.evaluation.scores import over_seeds, scores
from slidesieve.provenance.files import file_stamp, hash_file

METHODS = {"sparselearn": (7, 0.7), "random": (7, 0.4), "text_only": (0, 0.3)}
CODE = {"slidesieve.models.vlm.VLM": "a1"}


def write_experiment(
    folder: Path,
    *,
    methods: dict[str, tuple[int, float]] = METHODS,
    seeds: tuple[int, ...] = (0,),
    day: int = 1,
    n_slides: int = 57,
    uncovered: tuple[str, ...] = (),
    code: dict[str, str] = CODE,
    commit: str = "",
    **settings: object,
) -> Path:
    """Write an experiment into `folder`; `methods` are name -> (k, share right), `settings` parameters of every run."""
    folder.mkdir(parents=True)
    write_cohort(folder, n_slides=n_slides)
    said = {"code": code, "commit": commit, "settings": settings, "day": day}
    answered = []
    for seed in seeds:
        for method, (k, share) in methods.items():
            made = write_run(folder, method, k=k, accuracy=share, seed=seed, uncovered=uncovered)
            place = folder / "60_answer_questions" / (f"{method}_k{k}_s{seed}" if k else f"{method}_s{seed}")
            place.parent.mkdir(exist_ok=True)
            made.rename(place)
            inputs = {"questions": {"": hash_file(folder / "questions.csv")[:16]}}
            _sign(place, folder, ["answers.csv", "selection_slides.csv"], inputs=inputs, **said)
            answered.append(place)
    compare(folder, answered, **said)
    return folder


def compare(folder: Path, answered: list[Path], **said: object) -> None:
    """Write what stage 80 leaves of these answers."""
    out, path = folder / "80_compare_methods", folder / "questions.csv"
    out.mkdir(exist_ok=True)
    questions = read_questions(path)
    answers = read_answers(answered, questions_path=path, questions=questions)
    how = {"draws": 50, "seed": 0}
    over_seeds(answers, questions, **how).to_csv(out / "over_seeds.csv", index=False)
    told = ledger(scores(answers, questions, **how), answers, answered, path)
    told.to_csv(out / "score_ledger.csv", index=False)
    inputs = {"answers": {f"{p.name}/answers.csv": hash_file(p / "answers.csv")[:16] for p in answered}}
    _sign(out, folder, ["over_seeds.csv", "score_ledger.csv"], inputs=inputs, **said)


def rewritten(folder: Path, change, name: str = "answers.csv") -> None:
    """Let `change` make another table of a finished stage's, receipts and comparison included."""
    table = change(pd.read_csv(folder / name))
    table.to_csv(folder / name, index=False)
    receipt = json.loads((folder / "receipt.json").read_text())
    receipt["outputs"][name] = _record(folder / name)
    (folder / "receipt.json").write_text(json.dumps(receipt))


def _sign(place: Path, folder: Path, outputs: list[str], *, inputs, code, commit, settings, day) -> None:
    stage = place.relative_to(folder).as_posix()
    receipt = {
        "stage": stage.partition("/")[0],
        "digest": "d" * 16,
        "finished": f"2026-11-{day:02d}T12:00:00+00:00",
        "environment": {"python": "3.11.7", "device": "cpu", "packages": {"torch": "2.13.0"}, "commit": commit},
        "given": settings | {"questions": "questions.csv", "out_dir": f"runs/{folder.name}/{stage}"},
        "recipe": {"notebook": "n1", "code": code, "parameters": settings, "inputs": inputs},
        "outputs": {name: _record(place / name) for name in outputs},
    }
    (place / "receipt.json").write_text(json.dumps(receipt))
    (place / ".slidesieve").write_text(f"{receipt['stage']}\n")


def _record(path: Path) -> dict:
    size, mtime_ns = file_stamp(path)
    return {"sha256": hash_file(path), "size": size, "mtime_ns": mtime_ns}
