"""One training over two processes (CPU, gloo): the same run as in one, resumable, and by hand from the command line."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import PartialState
from tiny_notebooks import write_notebook

from slidesieve.datasets.examples import Example
from slidesieve.features.bag import make_bag
from slidesieve.models.checkpoints import build_vlm
from slidesieve.provenance import receipts
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.recipes import recipe_of
from slidesieve.synthetic.language import build_lm, build_tokenizer
from slidesieve.training.launch import run_in_processes
from slidesieve.training.loop import AnswerLoss, Feed, Phase, Settings, fit
from slidesieve.training.run_files import last_whole

D, K = 33, 7
WORDS = ("abscess", "necrosis", "yes", "no", "A B", "benign")
NO_GRADIENT = ("scorer.head.bias", "scorer.norm.bias")  # z-scores undo a shift: Adam makes steps of its rounding errors
BETAS = (0.9, 0.98)  # a shorter memory than the default: rounding grows less in seven steps
RATES = {"compressor": 1e-2, "projector": 1e-2, "lm": 1e-2}


@pytest.fixture(scope="module")
def lm_folder(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("lm"), build_tokenizer()
    build_lm(tokenizer, width=24, layers=2, heads=3, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def fresh():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield process


@pytest.fixture(scope="module")
def train_apart(fresh):
    """`train` in a process of its own: a fork of pytest would take along the threads that other tests have left."""
    return lambda *given, **options: fresh.submit(train, *given, **options).result()


def model_and_feed(lm_folder: str, compressor: str, *, lora: bool = True, options: dict | None = None, batch: int = 4):
    rng, bags = np.random.default_rng(0), {}
    for i, n in enumerate((9, 23, 41, 12, 5)):  # one shorter than K
        bags[f"s{i}"] = make_bag(f"s{i}", rng.standard_normal((n, D)), np.arange(2 * n).reshape(n, 2), {})
    scorer = {"scorer_heads": 3, "scorer_width": 12} if compressor == "sparselearn" else {}
    model = build_vlm(lm_folder, compressor, d=D, k=K, seed=1, options=scorer | (options or {}), projector_width=19)
    if lora:
        model.add_lora(rank=2, alpha=4, dropout=0.0)
    asked = [Example(f"s{i}", None, (("Is What", WORDS[i]), ("grade?", WORDS[5 - i]))) for i in range(5)]
    captions = [Example(f"s{i}", None, (("Describe slide.", " ".join(WORDS[i:])),)) for i in range(5)]
    return model, Feed(model, bags, (Phase(captions, 3, 2), Phase(asked, 4, batch)), seed=4, max_tiles=29)


def train(
    lm_folder,
    checkpoint,
    *,
    processes: int,
    compressor="mean",
    accumulate=1,
    when=None,
    device=None,
    batch_tokens=65536,
    **options,
):
    model, feed = model_and_feed(lm_folder, compressor, **options)
    done = {}

    def stop(model, step):
        done["step"] = step
        if step == when:
            raise RuntimeError("stopped here")

    table = fit(
        model,
        AnswerLoss(feed),
        Settings(RATES, 0.01, 2, 1.0, accumulate=accumulate, batch_tokens=batch_tokens, betas=BETAS),
        seed=8,
        checkpoint=checkpoint,
        save_minutes=0,
        evaluate=lambda model, share: done["step"],  # the last is the best
        evaluations=3,
        before_step=stop,
        watch=lambda model, share: {"pid": os.getpid(), "rank": PartialState().process_index},
        device=device,
        processes=processes,
    )
    return weights_of(model), table


def weights_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}


def distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a if not name.endswith(NO_GRADIENT))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("compressor", "options"), [("mean", None), ("sparselearn", {"gate": "scale"}), ("text_only", None)]
)
def test_two_processes_train_what_one_does(train_apart, lm_folder, tmp_path, compressor, options, accumulate):
    """Methods that draw no noise: equal to rounding, with batches, losses and schedule of any length divided."""
    how = {"compressor": compressor, "options": options, "accumulate": accumulate}
    one, alone = train(lm_folder, tmp_path / "one.pt", processes=1, **how)
    two, table = train_apart(lm_folder, tmp_path / "two.pt", processes=2, **how)
    fresh, _ = model_and_feed(lm_folder, compressor, options=options)
    assert distance(one, two) < 1e-5 < distance(one, weights_of(fresh))
    assert table["loss"].to_numpy() == pytest.approx(alone["loss"].to_numpy(), abs=1e-5)
    assert table["lr"].tolist() == alone["lr"].tolist()
    told = table.dropna(subset="score")
    assert len(table) == 7 and told["step"].tolist() == {1: [2, 4, 6], 2: [3, 5, 6]}[accumulate]
    assert (told["rank"] == 0).all() and (told["pid"] != os.getpid()).all()  # the first process's word


def test_processes_whose_batches_fall_into_different_parts_train_what_one_does(train_apart, lm_folder, tmp_path):
    one, alone = train(lm_folder, tmp_path / "one.pt", processes=1)
    two, table = train_apart(lm_folder, tmp_path / "two.pt", processes=2, batch_tokens=60)
    _, feed = model_and_feed(lm_folder, "mean")
    parts = [[len(feed.parts(step, rank, 2, batch_tokens=60)) for rank in range(2)] for step in range(7)]
    assert any(first != second for first, second in parts)
    assert distance(one, two) < 1e-5
    assert table["loss"].to_numpy() == pytest.approx(alone["loss"].to_numpy(), abs=1e-5)


def test_a_run_goes_on_in_other_processes_where_it_was_cut(train_apart, lm_folder, tmp_path):
    whole, table = train_apart(lm_folder, tmp_path / "whole.pt", processes=2)
    with pytest.raises(Exception, match="stopped here"):
        train_apart(lm_folder, tmp_path / "cut.pt", processes=2, when=5)
    last = torch.load(last_whole(tmp_path / "cut.pt", ""), weights_only=True)["step"]
    assert last in (4, 5)  # the other process may stop the first one in the midst of a save
    resumed, again = train_apart(lm_folder, tmp_path / "cut.pt", processes=2)
    assert distance(whole, resumed) == 0
    assert again[["step", "loss", "lr"]].equals(table[["step", "loss", "lr"]])


def _fit_here(model, feed, folder):
    fit(
        model, AnswerLoss(feed), Settings(RATES, 0.01, 2, 1.0), seed=8, checkpoint=folder / "c.pt", save_minutes=100,
        evaluate=lambda model, share: float(PartialState().process_index), evaluations=4, stop_at=0.5,
    )  # fmt: skip
    torch.save(weights_of(model), folder / f"{PartialState().process_index}.pt")


def fit_in_two(lm_folder, folder):
    """The model's weights in this process before and after two others have trained it."""
    model, feed = model_and_feed(lm_folder, "sparselearn")
    before = {name: value.copy() for name, value in weights_of(model).items()}
    run_in_processes(partial(_fit_here, model, feed, folder), 2, device="cpu")
    return before, weights_of(model)


def test_processes_never_disagree(fresh, lm_folder, tmp_path):
    """Each finds its group by itself; noise differs by process, weights and the end of training do not."""
    before, after = fresh.submit(fit_in_two, lm_folder, tmp_path).result()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert distance(before, after) == 0  # forks have left it alone
    assert distance(first, second) == 0 < distance(first, before)


def test_a_batch_that_cannot_be_divided_is_refused_before_anything_starts(lm_folder, tmp_path):
    with pytest.raises(ValueError, match="got batches of 3 slides for 2 processes"):
        train(lm_folder, tmp_path / "c.pt", processes=2, batch=3)


@pytest.mark.slow
def test_a_notebook_as_a_script_in_two_processes(lm_folder, tmp_path):
    notebook = write_notebook(
        tmp_path / "tiny.ipynb",
        prelude="import test_multi_process as multi",
        parameters='lm: str = ""  # in: language model\ndevice: str = "cpu"  # run: cpu or cuda\n',
        body="weights, table = multi.train(lm, stage.work / 'checkpoint.pt', processes=1)\n"
        "multi.np.savez(stage.out_dir / 'weights.npz', **weights)\n"
        "table.to_csv(stage.out_dir / 'history.csv')\n",
        outputs='["weights.npz", "history.csv"]',
    )
    out_dir, aside = tmp_path / "out", tmp_path / "aside"
    aside.mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run = subprocess.run(
        [*launcher, "-m", "flows.script", str(notebook), "--out", str(out_dir), "-p", f"lm={lm_folder}"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}/tests:{ROOT}/tests/training", "TMPDIR": str(aside)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("tiny: never ran") == run.stdout.count("step 7/7") == 1
    recipe = recipe_of(notebook, {"lm": lm_folder, "out_dir": str(out_dir)})
    assert receipts.check(out_dir, recipe) == []
    assert not list(aside.glob("rank-*"))  # what the second process wrote
    alone, table = train(lm_folder, tmp_path / "alone.pt", processes=1)
    assert distance(dict(np.load(out_dir / "weights.npz")), alone) < 1e-5
    ranks = pd.read_csv(out_dir / "history.csv")["rank"].dropna()
    assert set(ranks) == {0} and len(ranks) == table["rank"].notna().sum()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_gpus_train_what_one_cpu_does(train_apart, lm_folder, tmp_path):
    two, _ = train_apart(lm_folder, tmp_path / "two.pt", processes=2, device="cuda")
    one, _ = train(lm_folder, tmp_path / "one.pt", processes=1)
    assert distance(one, two) < 1e-3
