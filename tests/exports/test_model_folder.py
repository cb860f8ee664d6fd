"""A published folder answers as the run did, to the last digit, and needs nothing of ours."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_run import ASKED, COMMAND, LENGTHS, MAX_TILES, write_receipt
from transformers import AutoModel, AutoTokenizer

from slidesieve.answers.answering import answer
from slidesieve.answers.tables import LOGP
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.datasets.questions import Question
from slidesieve.exports.card import CardFacts, Told, _encoder
from slidesieve.exports.huggingface import publish
from slidesieve.exports.runs import find_run
from slidesieve.features.bag import linspace_cap
from slidesieve.features.store import read_features
from slidesieve.models.checkpoints import load_model
from slidesieve.provenance.files import hash_file

ABSENT = {"slidesieve", "flows", "peft", "einops", "jaxtyping", "pandas", "beartype", "sklearn"}
TRAINS = {"let_lm_learn", "add_lora", "fit_features", "begin_model", "save_model", "backward", "optim"}


def given(folder: Path):
    """Slides as they are given to a published model, shortest first as the run asked them."""
    bags = {slide: read_features(folder.parent / "run" / f"{slide}.h5") for slide in LENGTHS}
    return {slide: (bags[slide].x, bags[slide].coords) for slide in sorted(bags, key=LENGTHS.get)}


def answers_of(folder: Path, method: str) -> pd.DataFrame:
    table = pd.read_csv(folder.parent / "run/60_answer_questions" / method / "answers.csv")
    return table[table["method"] == method].set_index("ID")


def check_same_answers(model, folder: Path, method: str) -> None:
    slides, told = given(folder), answers_of(folder, method)
    found = model.answer_all([(*slides[slide], ASKED) for slide in slides])
    for slide, answers in zip(slides, found, strict=True):
        for i, (one, (_, options)) in enumerate(zip(answers, ASKED, strict=True)):
            row = told.loc[f"{slide}{i}"]
            assert one.log_probs == row[LOGP[: len(options)]].tolist()  # bit for bit
            assert one.letter == row["predicted"] and one.option == options["ABC".index(one.letter)]


@pytest.mark.parametrize("method", sorted(COMPRESSORS))
def test_answers_are_those_of_the_run_to_the_last_digit(published, lm_folder, method):
    folder = published(method)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, lm=lm_folder)
    assert not type(model.vlm).__module__.startswith("slidesieve")
    check_same_answers(model, folder, method)
    slides, selected = given(folder), folder.parent / "run/60_answer_questions" / method / "selected.csv"
    kept = pd.read_csv(selected).groupby("slide_id")[["x_px0", "y_px0"]]
    for slide in slides:
        tokens = model.compress(*slides[slide])
        rows = [] if tokens.kept is None else tokens.kept[tokens.kept >= 0]
        corners = {tuple(slides[slide][1][i]) for i in rows}
        assert corners == {tuple(c) for c in (kept.get_group(slide).to_numpy() if slide in kept.groups else [])}
        assert tokens.kept is None or len(tokens.kept) == len(tokens.tokens)
        assert tokens.scores is None or tokens.scores.shape == (LENGTHS[slide],)


@pytest.mark.parametrize("how", [{"train_lm": "full"}, {"train_lm": "none"}, {"d": 24, "slide_encoder": "longnet"}])
def test_however_it_was_trained(published, lm_folder, how):
    folder = published("sparselearn", **how)
    inside = how.get("train_lm") == "full"
    assert (folder / "lm").is_dir() == inside
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, **({} if inside else {"lm": lm_folder}))
    check_same_answers(model, folder, "sparselearn")


def test_the_language_model_may_come_along(run_of, lm_folder):
    folder = run_of("sparselearn").with_name("with_lm")
    publish(find_run(run_of("sparselearn")), folder, command=COMMAND, include_lm=True)
    assert "trust_remote_code=True)" in (folder / "README.md").read_text()
    check_same_answers(AutoModel.from_pretrained(folder, trust_remote_code=True), folder, "sparselearn")


def test_a_language_model_in_half_precision_answers_alike_too(published, lm_folder):
    """The adapter stays in float32, as PEFT keeps it."""
    folder = published("sparselearn")
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, lm=lm_folder, dtype="bfloat16")
    ours = load_model(folder.parent / "run/50_tune_answers/sparselearn/model", lm_folder, dtype="bfloat16")
    (x, coords), asked = given(folder)["b"], Question("", "b", "", "", *ASKED[0], 0)
    bags = {"b": linspace_cap(read_features(folder.parent / "run/b.h5"), MAX_TILES)}
    told = answer(ours, [asked], bags, answer_form="text", batch_tokens=65536, rotations=2)
    assert model.answer(x, coords, *ASKED[0]).log_probs == told.loc[0, LOGP[:3]].tolist()
    assert next(model.vlm.lm.parameters()).dtype == torch.bfloat16


def test_one_question_alone_is_answered_alike_but_for_rounding(published, lm_folder):
    folder = published("tcssa")
    model = AutoModel.from_pretrained(folder, trust_remote_code=True, lm=lm_folder)
    x, coords = given(folder)["b"]
    alone = model.answer(x, coords, *ASKED[0]).log_probs
    assert np.allclose(alone, answers_of(folder, "tcssa").loc["b0", LOGP[:3]].tolist(), atol=1e-4, rtol=0)
    assert alone != model.answer(2 * x, coords, *ASKED[0]).log_probs


def test_the_folder_s_code_imports_nothing_of_ours_and_trains_nothing(published, lm_folder):
    folder = published("locpath")
    allowed = {"torch", "transformers", "safetensors", "huggingface_hub", "numpy", *sys.stdlib_module_names}
    for file in folder.glob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        assert {name.split(".")[0] for name in names} <= allowed
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert defined & TRAINS == set()
    rest = {path.name for path in folder.iterdir() if path.suffix != ".py"}
    assert rest == {
        ".slidesieve", "README.md", "config.json", "lora", "model.safetensors", "preprocessor_config.json", "tokenizer",
    }  # fmt: skip
    text = "".join(path.read_text(errors="ignore") for path in folder.rglob("*") if path.is_file())
    assert str(folder.parent) not in text and lm_folder not in text


@pytest.mark.slow
def test_it_loads_where_nothing_of_ours_is_installed(published, tmp_path, lm_folder):
    """In a process in which ABSENT cannot be imported; transformers is loaded before, for it asks what is there."""
    folder = published("sparselearn")
    x, coords = given(folder)["d"]
    np.savez(tmp_path / "slide.npz", x=x, coords=coords)
    code = f"""
import sys, json, numpy as np, transformers
from transformers import AutoModel
sys.modules.update(dict.fromkeys({sorted(ABSENT)}))
slide = np.load("slide.npz")
model = AutoModel.from_pretrained({str(folder)!r}, trust_remote_code=True, lm={lm_folder!r})
[answers] = model.answer_all([(slide["x"], slide["coords"], {ASKED!r})])
print(json.dumps([answer.log_probs for answer in answers]))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={"HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1", "PATH": ""},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = answers_of(folder, "sparselearn")
    for i, found in enumerate(json.loads(run.stdout.splitlines()[-1])):
        assert np.allclose(found, told.loc[f"d{i}", LOGP[: len(found)]].tolist(), atol=1e-4, rtol=0)
    assert not (tmp_path / "store").exists()  # no notes are taken there


def test_what_is_wrong_is_said_before_anything_is_loaded(published, lm_folder):
    folder = published("mean")
    load = lambda **how: AutoModel.from_pretrained(folder, trust_remote_code=True, **how)  # noqa: E731
    with pytest.raises(ValueError, match="holds no language model; give lm="):
        load()
    with pytest.raises(ValueError, match="got device_map; expected lm, device, dtype"):
        load(lm=lm_folder, device_map="auto")
    model = load(lm=lm_folder)
    x, coords = given(folder)["a"]
    with pytest.raises(ValueError, match=r"features: got \(41, 7\); expected \(n, 33\)"):
        model.answer(x[:, :7], coords, *ASKED[0])
    with pytest.raises(ValueError, match=r"options: got 1; expected 2 to 10"):
        model.answer(x, coords, "Which?", ["cyst"])


def test_another_language_model_is_refused(published, tmp_path, lm_folder):
    folder, other = published("mean"), tmp_path / "other"
    other.mkdir()
    for file in Path(lm_folder).iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    weights = load_file(other / "model.safetensors")
    save_file({name: value + 0.5 for name, value in weights.items()}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"trained with the language model .* give the one it was trained with"):
        AutoModel.from_pretrained(folder, trust_remote_code=True, lm=str(other))


@pytest.fixture
def compared(run_of):
    """A sparselearn run with a comparison of its answers, which is taken away again."""
    folder = run_of("sparselearn") / "80_compare_methods"
    folder.mkdir()
    head = "method,k,seed,group,n_questions,n_slides,coverage,accuracy,ci_low,ci_high\n"
    rows = ["sparselearn,7,1,all,8,4,1,0.8125,0.71,0.91", "sparselearn,9,1,all,8,4,1,0.1,0.1,0.1"]
    rows += ["sparselearn_wrong_slide,7,1,all,8,4,1,0.3,0.2,0.4", "majority,0,0,all,8,4,1,0.25,0.2,0.3"]
    (folder / "scores.csv").write_text(head + "\n".join(rows) + "\n")
    answers = hash_file(folder.parent / "60_answer_questions/sparselearn/answers.csv")[:16]
    write_receipt(folder, "80_compare_methods", {}, {"answers": {"sparselearn/answers.csv": answers}})
    yield folder
    shutil.rmtree(folder)


def test_scores_of_other_answers_are_not_this_model_s(compared, tmp_path):
    receipt = json.loads((compared / "receipt.json").read_text())
    receipt["recipe"]["inputs"]["answers"]["sparselearn/answers.csv"] = "0" * 16
    (compared / "receipt.json").write_text(json.dumps(receipt))
    told = Told.of(find_run(compared.parent))
    assert told.scores.empty and told.floors.empty and told.n_questions == 8


def test_card_and_configs_say_what_the_run_says(compared, tmp_path, lm_folder):
    run = find_run(compared.parent)
    publish(run, tmp_path / "model", command=COMMAND)
    text = (tmp_path / "model/README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    (metric,) = front["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == 0.8125 and metric["args"] == {"n_questions": 8, "ci_low": 0.71, "ci_high": 0.91}
    assert front["base_model"] == Path(lm_folder).name and front["library_name"] == "transformers"
    for said in (
        "| all | 8 | 0.812 | 0.710 to 0.910 |", "| `sparselearn_wrong_slide` | 8 | 0.300 | 0.200 to 0.400 |",
        "| `majority` | 8 | 0.250 | 0.200 to 0.300 |", "test: 4 slides of 4 patients", "- encoder: made-up",
        "licence: not recorded", COMMAND, "Receipt of the training c0ffee (2026-11-20T12:34:56+00:00, commit not told)",
    ):  # fmt: skip
        assert said in text
    assert "0.100" not in text  # of another k
    tiles = json.loads((tmp_path / "model/preprocessor_config.json").read_text())
    assert (tiles["encoder"], tiles["feature_width"], tiles["tile_px"], tiles["mpp"]) == ("made-up", 33, 224, 0.5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model/tokenizer")
    assert tokenizer("cyst")["input_ids"] == AutoTokenizer.from_pretrained(lm_folder)("cyst")["input_ids"]


@pytest.mark.parametrize(
    ("encoder", "licence"),
    [
        ("MahmoodLab/UNI2-h", "licence: gated, CC-BY-NC-ND-4.0"),
        ("made-up", "licence: not recorded"),
        (None, "not recorded"),
    ],
)
def test_the_card_hands_down_the_terms_of_a_known_encoder(encoder, licence):
    assert licence in _encoder(CardFacts(None, {"encoder": encoder}, "", False, "", "x"))
