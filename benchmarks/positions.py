"""Positions in bags ten times longer than any in training: what original, scaled and contiguous ones cost.

    OMP_NUM_THREADS=1 python -m benchmarks.positions --out DIR

The toy language model (notebook 02) has seen positions up to 600. Bags are runs of tissue tiles with one run of a
finding, an eighth of the tiles; the question is which finding, of four. Training bags have 200 to 400 tiles, test bags
as many, or ten times as many; every bag is thinned to the same 40 tiles, so that nothing but positions tells the two
lengths apart. The projector learns, the language model is frozen. The same seed has the same bags and first weights
for all three. `all` keeps the 40, `random` 16 of them.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from scipy import stats

from slidesieve.datasets.questions import Question, prompt
from slidesieve.features.bag import Bag, collate, linspace_cap, make_bag
from slidesieve.models.chat import pack
from slidesieve.models.checkpoints import build_vlm
from slidesieve.models.positions import PositionIds
from slidesieve.models.vlm import VLM
from slidesieve.synthetic.classes import FINDINGS, TISSUES

D, CAP, K, SPAN = 24, 40, 16, 400
SHORTEST, LONGEST, LONGER = 200, 400, 10
WAYS: tuple[PositionIds, ...] = ("original", "scaled", "contiguous")
METHODS = ("all", "random")
ASKED = "Which finding is present?"


def draw_bag(rng: np.random.Generator, looks: dict[str, np.ndarray], *, longer: int) -> tuple[Bag, Question]:
    """Draw a thinned bag, and which finding lies in it."""
    n = int(rng.integers(SHORTEST, LONGEST + 1)) * longer
    finding, *others = (str(name) for name in rng.permutation(FINDINGS)[:4])
    tissues = [str(name) for name in rng.permutation(TISSUES)[:3]]
    start, width = int(rng.integers(n - n // 8)), n // 8
    names = np.repeat(tissues, [n // 2, n // 4, n - n // 2 - n // 4])
    names = np.where((np.arange(n) >= start) & (np.arange(n) < start + width), finding, names)
    x = np.stack([looks[name] for name in names]) + 0.3 * rng.standard_normal((n, D))
    options = tuple(str(option) for option in rng.permutation([finding, *others]))
    question = Question("", "", "", "", ASKED, options, options.index(finding))
    return linspace_cap(make_bag("bag", x, None, {}), CAP), question


def looks_of(seed: int) -> dict[str, np.ndarray]:
    """What a tile of each finding and tissue looks like, but for noise."""
    rng = np.random.default_rng([seed, 0])
    return {name: rng.standard_normal(D) for name in (*FINDINGS, *TISSUES)}


@lru_cache(maxsize=4)
def draw(seed: int, *, count: int, longer: int, split: int) -> list[tuple[Bag, Question]]:
    """Draw the bags of a split; the same for whoever asks."""
    rng, looks = np.random.default_rng([seed, split, longer]), looks_of(seed)
    return [draw_bag(rng, looks, longer=longer) for _ in range(count)]


def fit(model: VLM, drawn: list[tuple[Bag, Question]], *, batch: int, lr: float, seed: int) -> None:
    """One pass over fresh bags; what learns is the projector."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(drawn) // batch)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for some in _batches(drawn, batch):
        texts = pack([[model.chat.turn(prompt(q), [q.options[q.answer]])] for _, q in some])
        log_probs, _ = model(collate([bag for bag, _ in some]), texts, generator)
        optimizer.zero_grad()
        (-log_probs.sum() / (texts.answer >= 0).sum()).backward()
        optimizer.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def accuracy(model: VLM, drawn: list[tuple[Bag, Question]], *, batch: int) -> float:
    """Share of questions whose right option is the likeliest."""
    right = 0
    for some in _batches(drawn, batch):
        texts = pack([[model.chat.turn(prompt(q), list(q.options))] for _, q in some])
        log_probs, _ = model(collate([bag for bag, _ in some]), texts)
        scores = torch.zeros(int(texts.answer.max()) + 1)
        scores = scores.scatter_add(0, texts.answer.clamp(min=0).flatten(), log_probs.flatten()).view(len(some), -1)
        right += sum(int(s.argmax()) == q.answer for s, (_, q) in zip(scores, some, strict=True))
    return right / len(drawn)


def trial(lm: str, method: str, way: PositionIds, seed: int, *, steps: int, batch: int, test: int) -> dict:
    """Train once; accuracy at training length and at ten times as many tiles."""
    model = build_vlm(
        lm, method, d=D, k=K, seed=seed, options={}, projector_width=96, position_ids=way, position_span=SPAN
    )
    fit(model, draw(seed, count=steps * batch, longer=1, split=1), batch=batch, lr=3e-3, seed=seed)
    found = {n: accuracy(model, draw(seed, count=test, longer=n, split=2), batch=batch) for n in (1, LONGER)}
    return {"method": method, "position_ids": way, "seed": seed, "trained": found[1], "ten_times": found[LONGER]}


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, what is lost at ten times the length, and its 95 % interval (t over seeds, paired)."""
    rows = []
    for (method, way), own in runs.groupby(["method", "position_ids"], sort=False):
        lost = own["ten_times"] - own["trained"]
        half = stats.t.ppf(0.975, len(lost) - 1) * lost.std() / len(lost) ** 0.5 if len(lost) > 1 else np.nan
        ends = {"ci_low": lost.mean() - half, "ci_high": lost.mean() + half}
        means = own[["trained", "ten_times"]].mean().to_dict()
        rows.append({"method": method, "position_ids": way, "seeds": len(own), **means, "change": lost.mean(), **ends})
    return pd.DataFrame(rows)


def main(
    out: Annotated[Path, typer.Option(help="folder for runs.csv and positions.csv")],
    lm: Annotated[str, typer.Option(help="language model, a folder or id")] = "store/llm/toy",
    seeds: Annotated[str, typer.Option(help="comma-separated")] = "0,1,2,3,4",
    steps: Annotated[int, typer.Option(help="training steps")] = 300,
    batch: Annotated[int, typer.Option(help="bags a step")] = 16,
    test: Annotated[int, typer.Option(help="test bags of each length")] = 400,
) -> None:
    """Write every run, and the table."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed, method, way in product(map(int, seeds.split(",")), METHODS, WAYS):
        runs.append(trial(lm, method, way, seed, steps=steps, batch=batch, test=test))
        print(runs[-1], flush=True)
        pd.DataFrame(runs).to_csv(out / "runs.csv", index=False)
    table = summary(pd.DataFrame(runs))
    table.to_csv(out / "positions.csv", index=False)
    print(table.round(3).to_string(index=False))


def _batches(drawn: list, size: int) -> Iterator[list]:
    return (drawn[i : i + size] for i in range(0, len(drawn), size))


if __name__ == "__main__":
    typer.run(main)
