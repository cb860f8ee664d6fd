"""A cohort of random bags and stage-60 folders with answers of known quality, for tests of what compares them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from slidesieve.answers.tables import COLUMNS, COST_COLUMNS, LOGP, SELECTION_COLUMNS
from slidesieve.cohort.manifest import COLUMNS as MANIFEST_COLUMNS
from slidesieve.datasets.questions import COLUMNS as QUESTION_COLUMNS
from slidesieve.datasets.questions import LETTERS, read_questions
from slidesieve.features.bag import make_bag
from slidesieve.features.store import write_packed
from slidesieve.provenance.files import file_stamp, hash_file

N_TILES, D = 75, 33


def write_cohort(folder: Path, *, n_slides: int = 57, same_question: bool = False, folds: int = 0) -> None:
    """Write manifest.csv, questions.csv, truth.csv and store.h5; two planted tiles a slide, longer than the others.

    `same_question`: one "finding" question a slide with one option set, whose answer shifts the slide's mean feature.
    """
    generator = np.random.default_rng(0)
    slides = [f"s{i:03d}" for i in range(n_slides)]
    label = generator.integers(0, 3, size=n_slides)
    if same_question:
        asked = [_question(i, "label", "kind", "Which?", ["fat", "nerve", "gland"], label[i]) for i in range(n_slides)]
    else:
        asked = []
        for i in range(n_slides):
            options = generator.permutation(["cyst", "abscess", "necrosis", "thrombus"]).tolist()
            finding = int(generator.integers(4))
            asked.append(_question(i, "Evidence", "finding", "Which finding?", options, finding, f"f{i}"))
            asked.append(_question(i, "Evidence", "presence", "Is cyst present?", ["yes", "no"], i % 2, f"p{i}"))
            asked.append(_question(i, "Composition", "tissue", "Which tissue?", ["fat", "nerve", "gland"], label[i]))
    pd.DataFrame(asked, columns=list(QUESTION_COLUMNS)).to_csv(folder / "questions.csv", index=False)
    bags, truth = [], []
    for i, slide in enumerate(slides):
        x, planted = generator.normal(size=(N_TILES, D)), generator.choice(N_TILES, size=2, replace=False)
        x[:, label[i]] += 0.4
        x[planted[0]] *= 1.6
        coords = np.stack([64 * (np.arange(N_TILES) % 15), 64 * (np.arange(N_TILES) // 15)], axis=1)
        bags.append(make_bag(slide, x, coords, {}))
        kinds = ("finding", "grade")
        truth += [(slide, *coords[tile], kind, "x") for tile, kind in zip(planted, kinds, strict=True)]
    write_packed(folder / "store.h5", bags)
    pd.DataFrame(truth, columns=["slide_id", "x_px0", "y_px0", "kind", "name"]).to_csv(
        folder / "truth.csv", index=False
    )
    split = [str(i % folds) if folds else ("train", "val", "test")[min(i % 5, 2)] for i in range(n_slides)]
    manifest = pd.DataFrame("", index=range(n_slides), columns=list(MANIFEST_COLUMNS))
    manifest = manifest.assign(slide_id=slides, case_id=slides, feature_path="store.h5", split=split)
    manifest.to_csv(folder / "manifest.csv", index=False)


def write_run(
    folder: Path, method: str, *, k: int, accuracy: float, seed: int = 0, fold: int = -1, uncovered: tuple = ()
) -> Path:
    """Write one stage-60 folder under `folder`/runs: right answers with probability `accuracy`, and its controls."""
    generator = np.random.default_rng([seed, k, fold + 1, len(method)])
    manifest = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    test = set(manifest.loc[manifest["split"] == (str(fold) if fold >= 0 else "test"), "slide_id"])
    asked = [question for question in read_questions(folder / "questions.csv") if question.slide_id in test]
    shares = {method: accuracy, f"{method}_wrong_slide": 0.3}
    shares |= {f"{method}_soft": min(1.0, accuracy + 0.05)} if method.startswith("sparselearn") else {}
    run = {"k": k or "", "seed": seed, "fold": fold}
    rows = [
        _answer(question, generator, share, question.slide_id not in uncovered) | run | {"method": name}
        for name, share in shares.items()
        for question in asked
    ]
    out = folder / "runs" / f"{method.replace(':', '-').replace('=', '-')}_k{k}_s{seed}_f{fold}"
    out.mkdir(parents=True)
    pd.DataFrame(rows)[COLUMNS].to_csv(out / "answers.csv", index=False)
    kept = min(k, N_TILES) or N_TILES
    found = generator.binomial(2, accuracy if k else 1.0, size=len(test))
    selection = pd.DataFrame({"slide_id": sorted(test), "n_kept_planted": found, **run, "method": method})
    selection = selection.assign(n_tiles=N_TILES, n_planted=2, n_kept=kept)
    selection[SELECTION_COLUMNS].to_csv(out / "selection_slides.csv", index=False)
    tokens = kept if method != "text_only" else 0
    cost = {"n_tiles": N_TILES, "visual_tokens": tokens, "text_tokens": 9, "tflops": 1e-3 * (9 + tokens)}
    cost |= {"method": method, "tflops_attention": 1e-6 * (9 + tokens) ** 2} | run
    pd.DataFrame([cost])[COST_COLUMNS].to_csv(out / "costs.csv", index=False)
    n_selected = {"mean": 0, "text_only": 0}.get(method, kept)
    selected = [(slide, index) for slide in sorted(test - set(uncovered)) for index in range(n_selected)]
    pd.DataFrame(selected, columns=["slide_id", "index"]).to_csv(out / "selected.csv", index=False)
    outputs = {name: _record(out / name) for name in ("answers.csv", "selection_slides.csv")}
    receipt = {"recipe": {"inputs": {"questions": {"": hash_file(folder / "questions.csv")[:16]}}}, "outputs": outputs}
    (out / "receipt.json").write_text(json.dumps(receipt))
    return out


def _record(path):
    size, mtime_ns = file_stamp(path)
    return {"sha256": hash_file(path), "size": size, "mtime_ns": mtime_ns}


def _question(i, broad, narrow, text, options, answer, name=None):
    shown = [*options, *[""] * (4 - len(options))]
    return (name or f"t{i}", f"s{i:03d}", broad, narrow, text, *shown, LETTERS[int(answer)])


def _answer(question, generator, share, covered):
    n = len(question.options)
    right = generator.random() < share
    predicted = question.answer if right else (question.answer + 1 + int(generator.integers(n - 1))) % n
    logp = [*(-1.0 - 2 * generator.random(n)), *[float("nan")] * (4 - n)]
    logp[predicted] = -0.5
    return {
        "ID": question.id,
        "Slide": question.slide_id,
        "case_id": question.slide_id,
        "broad": question.broad,
        "narrow": question.kind,
        "answer": LETTERS[question.answer],
        "predicted": LETTERS[predicted] if covered else "",
        "per_token": LETTERS[predicted] if covered else "",
        "letters": LETTERS[predicted] if covered else "",
        "correct": bool(right and covered),
        "covered": covered,
    } | dict(zip(LOGP[:4], logp if covered else [float("nan")] * 4, strict=True))
