"""A finished run around the language model of `lm_folder` (conftest): a small cohort, weights, answers and receipts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tiny_vlm import OPTIONS, K

from slidesieve.answers.answering import answer_all
from slidesieve.answers.select import select, selected_tiles
from slidesieve.cohort.manifest import COLUMNS, read_manifest
from slidesieve.datasets.questions import Question
from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import load_available_bags
from slidesieve.features.store import write_features
from slidesieve.models.checkpoints import begin_model, save_model
from slidesieve.provenance.files import file_stamp, files_under, hash_file

SIDE_PX0, MAX_TILES = 448, 60  # fewer than the longest slide has
LENGTHS = {"a": 41, "b": 75, "c": 59, "d": 20}
COMMAND = "slidesieve export runs/x --to hf --out model"
ASKED = (("Which finding?", ("cyst", "necrosis", "thrombus")), ("Is fat present?", ("yes", "no")))


def write_cohort(folder: Path, d: int) -> None:
    """Manifest, question table and one feature file a slide, of d features a tile."""
    rows, asked = [], []
    for n, (slide, length) in enumerate(LENGTHS.items()):
        rng = np.random.default_rng(length)
        coords = SIDE_PX0 * np.stack([np.arange(length) % 9, np.arange(length) // 9], 1)
        told = {"patch_size_level0": SIDE_PX0, "patch_size": 224, "encoder": "made-up", "mpp": 0.5}
        write_features(folder / f"{slide}.h5", make_bag(slide, rng.standard_normal((length, d)), coords, {}), told)
        rows.append({"slide_id": slide, "case_id": f"case {slide}", "feature_path": f"{slide}.h5", "split": "test"})
        key = "AB"[n % 2]
        shown = [(text, *options, *[""] * (4 - len(options))) for text, options in ASKED]
        asked += [(f"{slide}{i}", slide, "B", "N", *words, key) for i, words in enumerate(shown)]
    pd.DataFrame(rows).reindex(columns=list(COLUMNS), fill_value="").to_csv(folder / "manifest.csv", index=False)
    columns = ["ID", "Slide", "Broad Category", "Narrow Category", "Question", "A", "B", "C", "D", "Answer"]
    pd.DataFrame(asked, columns=columns).to_csv(folder / "questions.csv", index=False)


def questions() -> list[Question]:
    return [
        Question(f"{slide}{i}", slide, "N", "B", text, options, n % 2)
        for n, slide in enumerate(LENGTHS)
        for i, (text, options) in enumerate(ASKED)
    ]


def write_run(
    folder: Path, lm_folder: str, method: str, *, d: int = 33, train_lm: str = "lora", slide_encoder: str = "none"
) -> Path:
    """Write an experiment's folder with one run, its weights moved off their start; return it."""
    folder.mkdir(exist_ok=True)
    write_cohort(folder, d)
    manifest = read_manifest(folder / "manifest.csv")
    bags = load_available_bags(manifest, None, list(LENGTHS), most_tiles=MAX_TILES)
    settings = {"projector_width": 19, "slide_encoder": slide_encoder, "options": OPTIONS.get(method, {})}
    model = begin_model(
        lm_folder, method, bags, start=None, k=K, seed=1, settings=settings, train_slides=["a", "b"]
    )  # fmt: skip
    model.let_lm_learn(train_lm, rank=2, alpha=6, dropout=0.1)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    trained, answered = folder / "50_tune_answers" / method, folder / "60_answer_questions" / method
    save_model(model, trained / "model")
    answered.mkdir(parents=True)
    write_receipt(trained, "50_tune_answers", {}, {})
    how = {"method": method, "answer_form": "text", "batch_tokens": 65536, "control_seed": 0, "rotations": 2}
    answers = answer_all(model, questions(), bags, cases=manifest.cases, wrong_slide=False, **how)
    answers.assign(fold=-1).to_csv(answered / "answers.csv", index=False)
    selected_tiles(select(model, bags, batch_tokens=65536), bags).to_csv(answered / "selected.csv", index=False)
    weights = {name: hash_file(trained / name)[:16] for name in files_under(trained) if name.startswith("model")}
    given = {
        "manifest": str(folder / "manifest.csv"), "questions": str(folder / "questions.csv"), "features": "",
        "lm": lm_folder, "checkpoint": str(trained), "method": "", "fold": -1, "answered_split": "test",
        "out_dir": str(answered),
        "answer_form": "text", "rotations": 2, "max_tiles": MAX_TILES, "dtype": "auto",
    }  # fmt: skip
    write_receipt(answered, "60_answer_questions", given, {"checkpoint": weights})
    return folder


def write_receipt(folder: Path, stage: str, given: dict, inputs: dict) -> None:
    outputs = {}
    for name in files_under(folder):
        size, mtime_ns = file_stamp(folder / name)
        outputs[name] = {"sha256": hash_file(folder / name), "size": size, "mtime_ns": mtime_ns}
    recipe = {"notebook": "", "code": {}, "parameters": {"steps": 3}, "inputs": inputs}
    receipt = {"stage": stage, "digest": "c0ffee", "finished": "2026-11-20T12:34:56+00:00", "given": given}
    (folder / "receipt.json").write_text(json.dumps(receipt | {"recipe": recipe, "outputs": outputs}))
