"""A needle in a haystack of real tokens: what keeping k of n costs, beside attention pooling over all n.

    OMP_NUM_THREADS=1 python -m benchmarks.needle --n 1000 --k 32 --seeds 0,1,2 --out DIR

Which kind of lung tumour lies among thousands of other organs' tokens (see needle_bags)? Every model sees the very same
bags; the weights of its best validation AUC are kept, and the test bags are looked at once, at the end.

sparselearn   compressors.sparselearn, token-wise scorer, no denoiser, and a gated-attention head (mil.models). Ours,
              not the paper's: the head; its warm-up on all clean tokens, to its own early stop; and a budget that falls
              from n/2 to k while tau falls, for a gate that starts at k/n = 0.03 shows the head nothing but noise.
              Validation and test take the hard path: exactly k raw tokens reach the head.
sieve         the same with half of k, and as many means of what is left
tcssa ...     slots, attention's most and Cropr's (NAMED), and the same head, learnt together
random        k random tokens (new ones each step, fixed ones in evaluation) and the same head
kmeans ...    the rivals without training (needle_rivals): k tokens, chosen or merged once a bag, and the same head
gated, abmil  torchmil over all n tokens, trained until the validation AUC stops rising
mean          logistic regression on the mean of all n tokens
needle_alone  the same on the needle's tokens: a ceiling, for it is told where to look
"""

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
import typer
from torch import nn

from benchmarks.needle_bags import OTHER, NeedleBags, found_share, needle_bags, read_slides
from benchmarks.needle_plots import draw
from benchmarks.needle_rivals import NAMES, left_of
from benchmarks.peers import mean_of_all, mean_of_needle, mean_regression
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.mil.models import ABMIL, BagClassifier, GatedAttentionHead, bag_model
from slidesieve.mil.training import Annealing, Settings, bag_auc, bag_logits, fit_bags, steps_an_epoch

HIPT = Path(__file__).parents[2] / "shared" / "data" / "mil" / "hipt_tcga"
TRAIN = {1000: 600}  # training bags by n, otherwise FEWER
FEWER, VALIDATION, TEST = 400, 200, 200
BATCH = {1000: 8}  # bags a step by n, otherwise half
CLASSES = 2
NAMED = {  # what learns to compress, with its sizes
    "tcssa": {"expert_hidden": 32, "expert_dropout": 0.5, "balance": 0.01},
    "attention_topk": {},
    "cropr": {"query_heads": 4},
}
SCORER = {"scorer_layers": 1, "scorer_width": 64, "scorer_heads": 4, "scorer_attention": "none", "denoiser": "off"}


class Plan(NamedTuple):
    """Settings of the peers; of random, and of sparselearn's head without a gate; under the gate; and the rest."""

    peer: Settings
    alone: Settings
    gated: Settings
    dropout: float
    tau_end: float


class Trial(NamedTuple):
    """A model, its k (0: reads all tokens), what trains and tests it, and the settings that this depends on."""

    model: str
    k: int
    run: Callable[[], dict]
    settings: tuple = ()


def main(
    out: Annotated[Path, typer.Option(help="folder for needle.csv and the figures")],
    n: Annotated[int, typer.Option(help="tokens a bag")] = 1000,
    k: Annotated[str, typer.Option(help="tokens kept; a comma-separated list gives the sweep")] = "32",
    seeds: Annotated[str, typer.Option(help="comma-separated; a seed sets patients, bags and weights")] = "0,1,2",
    hay: Annotated[str, typer.Option(help="organ of the hay: other or same")] = OTHER,
    data: Annotated[Path, typer.Option(help="packed HIPT stores of TCGA cohorts, with labels/")] = HIPT,
    lr: Annotated[float, typer.Option(help="learning rate, but for the two below")] = 5e-4,
    scorer_lr: Annotated[float, typer.Option(help="learning rate of SparseLearn's scorer")] = 1e-3,
    gated_lr: Annotated[float, typer.Option(help="learning rate of SparseLearn's head under the gate")] = 2e-4,
    weight_decay: Annotated[float, typer.Option(help="of sparselearn and random; the peers have 1e-5")] = 1e-2,
    dropout: Annotated[float, typer.Option(help="in the head of sparselearn and random; gated has 0.25")] = 0.5,
    epochs: Annotated[int, typer.Option(help="epochs of SparseLearn with the gate")] = 4,
    tau_end: Annotated[float, typer.Option(help="temperature at the end; it starts at 1")] = 0.1,
    patience: Annotated[int, typer.Option(help="epochs without a better AUC that end a training without the gate")] = 5,
    most_epochs: Annotated[int, typer.Option(help="epochs that a training without the gate has at most")] = 40,
    bf16: Annotated[bool, typer.Option(help="train all models in bfloat16 (tests are float32): half the time")] = False,
    only: Annotated[str, typer.Option(help="comma-separated models to run; empty: all")] = "",
) -> None:
    """Train and test every model, a row of needle.csv each; the last line printed has the medians over seeds.

    Rows that an earlier call left in OUT are kept, not run again, if their settings are those of this call.
    """
    torch.set_num_threads(1)
    asked = {"n": [n], "seed": [int(part) for part in seeds.split(",")], "k": [int(part) for part in k.split(",")]}
    budgets = asked["k"]
    slides = read_slides(data)
    counts = {"train": TRAIN.get(n, FEWER), "validation": VALIDATION, "test": TEST}
    batch = BATCH.get(n, 4)
    precision = "bf16" if bf16 else "no"
    peer = Settings(lr, epochs=most_epochs, patience=patience, batch=batch, mixed_precision=precision)
    alone = peer._replace(weight_decay=weight_decay)
    gated = alone._replace(lr=gated_lr, epochs=epochs, patience=epochs, rates={"compressor": scorer_lr})
    plan = Plan(peer, alone, gated, dropout, tau_end)
    rows = earlier_rows(out)
    for seed in asked["seed"]:
        bags = needle_bags(slides, counts, n=n, seed=seed, hay=hay)
        for trial in models(bags, budgets, seed, plan):
            place = {"n": n, "hay": hay, "seed": seed, "model": trial.model, "k": trial.k}
            key = place | {"settings": repr(trial.settings)}
            if (only and trial.model not in only.split(",")) or any(key.items() <= row.items() for row in rows):
                continue
            rows = [row for row in rows if not place.items() <= row.items()]
            start = time.process_time()
            rows.append(key | trial.run() | {"cpu_s": time.process_time() - start})
            pd.DataFrame(rows).to_csv(out / "needle.csv.part", index=False)
            (out / "needle.csv.part").replace(out / "needle.csv")
            print("  ".join(f"{name} {_short(rows[-1][name])}" for name in rows[-1] if name != "settings"), flush=True)
    table = pd.DataFrame(rows)
    asked |= {"k": [*budgets, 0], "hay": [hay]}
    table = table[table[list(asked)].isin(asked).all(axis="columns")].sort_values(["n", "seed"], kind="stable")
    draw(table, out)
    print(summary(table, n=n, k=k, seeds=seeds, hay=hay))


def earlier_rows(out: Path) -> list[dict]:
    """The rows of needle.csv in `out`, which is made if need be."""
    out.mkdir(parents=True, exist_ok=True)
    rows = pd.read_csv(out / "needle.csv").to_dict("records") if (out / "needle.csv").exists() else []
    return [{"hay": OTHER, **row} for row in rows]


def models(bags: dict[str, NeedleBags], budgets: list[int], seed: int, plan: Plan) -> Iterator[Trial]:
    """Yield every model of one seed; nothing is trained before it is called."""
    d = bags["train"].tokens.shape[1]
    heads: dict[str, nn.Module] = {}

    def warm_head() -> nn.Module:
        if "warm" not in heads:  # one warm-up serves every k
            heads["warm"] = new_head(d, seed, plan.dropout)
            model = BagClassifier(COMPRESSORS["all"](d), heads["warm"])
            fitted(model, bags, plan.alone, seed=seed)
        return copy.deepcopy(heads["warm"])

    def gated_selector(name: str, k: int) -> dict:
        compressor = COMPRESSORS[name](d, k, seed=seed, **SCORER)
        steps = plan.gated.epochs * steps_an_epoch(len(bags["train"]), plan.gated.batch)
        n = bags["train"].rows.shape[1]
        budget, steps = {"k_start": n / 2, "k_end": compressor.k}, round(0.6 * steps)
        annealing = Annealing(**budget, tau_start=1.0, tau_end=plan.tau_end, steps=steps)
        return learn(BagClassifier(compressor, warm_head()), bags, plan.gated, seed=seed, before_step=annealing)

    def together(name: str, k: int) -> dict:
        compressor = COMPRESSORS[name](d, k, seed=seed, **NAMED.get(name, {}))
        return learn(BagClassifier(compressor, new_head(d, seed, plan.dropout)), bags, plan.alone, seed=seed)

    def rival(name: str, k: int) -> dict:
        compressor = COMPRESSORS[name](d, k, seed=seed).eval()
        left = {split: left_of(part, compressor) for split, part in bags.items()}
        head = BagClassifier(COMPRESSORS["all"](d), new_head(d, seed, plan.dropout))
        log = fitted(head, {split: part for split, (part, _) in left.items()}, plan.alone, seed=seed)
        test, found = left["test"]
        return scored(head, log, test, plan.alone) | found | chances(bags["test"], k)

    for k in budgets:
        for name in ("sparselearn", "sieve"):
            yield Trial(name, k, partial(gated_selector, name, k), plan[1:])
        for name in ("random", *NAMED, *NAMES):
            run = partial(rival if name in NAMES else together, name, k)
            yield Trial(name, k, run, (plan.alone, plan.dropout))
    for name in ("gated", "abmil"):
        model = bag_model("gated_abmil" if name == "gated" else name, d=d, classes=CLASSES, k=0, seed=seed)
        yield Trial(name, 0, partial(learn, model, bags, plan.peer, seed=seed, k=budgets[0]), (plan.peer, budgets[0]))
    for name, pool in (("mean", mean_of_all), ("needle_alone", mean_of_needle)):
        yield Trial(name, 0, partial(mean_regression, bags, pool))


def new_head(d: int, seed: int, dropout: float) -> nn.Module:
    """The head of sparselearn and random, initialised from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GatedAttentionHead(d, CLASSES, dropout=dropout)


def learn(model: nn.Module, bags: dict[str, NeedleBags], settings: Settings, *, seed: int, k: int = 0, **hooks) -> dict:
    """Train on train, choose on validation, test once; with the needle's share of the kept (most attended) tokens."""
    log = fitted(model, bags, settings, seed=seed, **hooks)
    test = bags["test"]
    recall, precision = (np.nan, np.nan)
    if isinstance(model, ABMIL) or model.compressor.keeps_tiles():
        recall, precision = found_share(kept_tokens(model, k), test, batch=settings.batch)
    found = {"recall": recall, "precision": precision}
    return scored(model, log, test, settings) | found | chances(test, k or model.compressor.k)


def scored(model: nn.Module, log: pd.DataFrame, test: NeedleBags, settings: Settings) -> dict:
    """The test's AUC, and how the training went."""
    best = log["validation_auc"].idxmax()
    return {
        "validation_auc": float(log["validation_auc"][best]),
        "test_auc": bag_auc(bag_logits(model, test, batch=settings.batch), test.y),
        "best_epoch": int(best),
        "epochs": len(log),
    }


def chances(test: NeedleBags, k: int) -> dict:
    """What a blind choice of k tokens would keep of the needle."""
    return {"chance_recall": k / test.rows.shape[1], "chance_precision": float(test.is_needle.mean())}


def fitted(model: nn.Module, bags: dict[str, NeedleBags], settings: Settings, *, seed: int, **hooks) -> pd.DataFrame:
    """Train on train, choose on validation; nothing is resumed: a trial is of minutes."""
    with TemporaryDirectory() as folder:
        return fit_bags(
            model, bags["train"], bags["validation"], settings, seed=seed, checkpoint=Path(folder) / "bags.pt", **hooks
        )


def kept_tokens(model: nn.Module, k: int) -> Callable[..., np.ndarray]:
    """A function from a batch to the places (b k) of the tokens that reach the head, or that attention ranks first."""
    if isinstance(model, ABMIL):
        return lambda *batch: model.attention(*batch).topk(k, dim=-1).indices.numpy()
    return lambda *batch: model.compressor(*batch).kept.numpy()


def summary(table: pd.DataFrame, *, n: int, k: str, seeds: str, hay: str = OTHER) -> str:
    """Medians over seeds: test AUC of each model (and k), then what sparselearn kept against chance."""
    several = "," in k
    names = table["model"] + ("@" + table["k"].astype(str)).where((table["k"] > 0) & several, "")
    auc = " ".join(
        f"{name} {value:.3f}" for name, value in table.groupby(names, sort=False)["test_auc"].median().items()
    )
    line = f"needle n={n} k={k} seeds={seeds}" + (f" hay={hay}" if hay != OTHER else "") + f": {auc}"
    kept = table[table["model"] == "sparselearn"]
    if len(kept):
        first = kept[kept["k"] == kept["k"].iloc[0]].median(numeric_only=True)
        for share in ("precision", "recall"):
            line += f"; {share} {first[share]:.3f} chance {first[f'chance_{share}']:.3f}"
    return line


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    typer.run(main)
