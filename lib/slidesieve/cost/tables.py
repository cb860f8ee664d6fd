"""Tables of cost: operations by formula, the papers' figures beside them, measured ratios, and what was claimed."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from slidesieve.cost import flops
from slidesieve.cost.activations import step_bytes
from slidesieve.cost.flops import Flops
from slidesieve.cost.methods import METHODS, Decoder, Sizes, visual_tokens
from slidesieve.cost.models import DECODERS, Case
from slidesieve.evaluation import published

MOST_STEP, MOST_MEMORY = 0.50, 0.45  # of the all-tile prefix: LoC-Path's own ratios to SlideChat are 50.6 and 44.3 %
QWEN = DECODERS["qwen2.5-7b"]
LONGEST = 20_000  # tiles; a claim that is not reached by then is not reached


def operations(methods: Sequence[str], lm: Decoder, tiles: Sequence[int], sizes: Sizes) -> pd.DataFrame:
    """One row a method, n, part and `what` (first token, training step): linear, attention; `sizes.n` is not used."""
    rows = []
    for method in methods:
        for n in tiles:
            here = sizes._replace(n=n)
            m = visual_tokens(METHODS[method], here)
            for what, parts in (
                ("first token", flops.forward(METHODS[method], lm, here)),
                ("training step", flops.step(METHODS[method], lm, here)),
            ):
                rows += [(method, n, m, what, part, count.linear, count.attention) for part, count in parts.items()]
    return pd.DataFrame(rows, columns=["method", "tiles", "visual_tokens", "what", "part", "linear", "attention"])


def beside_published(*, text: int) -> pd.DataFrame:
    """The papers' FLOPs of an answer, and ours for Qwen2.5-7B: linear alone, with attention, deviations in per cent.

    `counted` says what of the method: a paper that stays near the language model's share has left the rest out.
    """
    rows = []
    for paper in published.FLOPS:
        sizes = Sizes(paper.tiles, paper.visual_tokens, text, projector_width=QWEN.width)
        for counted, ours in _counts(paper, sizes).items():
            linear, both = ours.linear / 1e12, ours.total / 1e12
            off = (100 * (value / paper.tera_flops - 1) for value in (linear, both))
            rows.append((paper.method, paper.tera_flops, counted, linear, both, *off, paper.basis, paper.source))
    columns = ["method", "published", "counted", "linear", "with_attention", "linear_off", "with_attention_off"]
    return pd.DataFrame(rows, columns=[*columns, "basis", "source"])


def _counts(paper: published.Operations, sizes: Sizes) -> dict[str, Flops]:
    alone = {"language model alone": flops.decoder(QWEN, paper.visual_tokens + sizes.text)}
    methods = {
        "TC-SSA": {"whole method": "tcssa"},
        "SparseLearn": {"whole method, no slide encoder": "sparselearn", "whole method": "sparselearn_longnet"},
        "SlideChat": {"whole method": "slidechat"},
    }.get(paper.method, {})
    return alone | {name: flops.total(flops.forward(METHODS[method], QWEN, sizes)) for name, method in methods.items()}


def shares(measured: pd.DataFrame, *, base: str) -> pd.DataFrame:
    """What each method costs as a share of `base` at the same n and `what`: columns time, processor, peak, above."""
    columns = {"ms": "time", "processor_ms": "processor", "peak_mib": "peak", "above_mib": "above"}
    table = measured.set_index(["method", "n", "what"])[list(columns)]
    full = table.xs(base, level="method")
    divided = table.div(full.reindex(table.index.droplevel("method")).to_numpy())
    return divided.rename(columns=columns).reset_index()


def acceptance(measured: pd.DataFrame, *, n: int) -> pd.DataFrame:
    """Cross-attention adapters against all-tile prefixes: the shares of a step at n tiles, and whether they are met."""
    rows = []
    for base in [b for b in ("all", "slidechat") if b in set(measured["method"])]:
        table = shares(measured, base=base)
        found = table[(table["method"] == "locpath") & (table["n"] == n) & (table["what"] == "step")]
        limits = {"time": MOST_STEP, "processor": MOST_STEP, "peak": MOST_MEMORY, "above": MOST_MEMORY}
        for column, most in limits.items():
            share = found[column].iloc[0] if len(found) else np.nan
            verdict = "not measured" if np.isnan(share) else "met" if share <= most else "not met"
            rows.append((base, column, share, most, verdict))
    return pd.DataFrame(rows, columns=["against", "of", "share", "at_most", "verdict"])


def savings(tiles: Sequence[int], case: Case) -> pd.DataFrame:
    """What adapters save against SlideChat's road at each n, as shares: operations with and without attention, bytes.

    `answer_*` are of a first token, `step_*` of a training step; `step_bytes` is `activations.step_bytes`.
    """
    rows = []
    for n in tiles:
        row = {"tiles": n} | {name: saved(n) for name, saved in _formulas(case).items()}
        ours, full = (sum(step_bytes(case._replace(method=m, n=n)).values()) for m in ("locpath", "slidechat"))
        rows.append(row | {"adapters_gib": ours / 2**30, "slidechat_gib": full / 2**30, "step_bytes": 1 - ours / full})
    return pd.DataFrame(rows)


def verdicts(table: pd.DataFrame, case: Case) -> pd.DataFrame:
    """Each claim beside what the build saves: at the fewest and most tiles, and from how many tiles on it holds."""
    saved = {"FLOPs": _formulas(case), "GPU memory": {"step_bytes": _line_through(table)}}
    rows = [
        (claim.what, claim.saved, name, table[name].iloc[0], table[name].iloc[-1], reached(at, claim.saved))
        for claim in published.CLAIMS
        for name, at in saved[claim.what].items()
    ]
    columns = ["claim", "claimed", "of", "saved_at_fewest", "saved_at_most", "holds_from_tiles"]
    return pd.DataFrame(rows, columns=columns)


def reached(saved: Callable[[int], float], claim: float) -> float:
    """The fewest tiles at which so large a share is saved (savings grow with n); NaN if 20,000 are too few."""
    low, high = 0, LONGEST
    if saved(high) < claim:
        return np.nan
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if saved(middle) >= claim else (middle, high)
    return high


def _formulas(case: Case) -> dict[str, Callable[[int], float]]:
    lm = DECODERS[case.decoder]

    def share(count: Callable, of: Callable[[Flops], int]) -> Callable[[int], float]:
        def saved(n: int) -> float:
            sizes = case.sizes._replace(n=n)
            ours, full = (of(flops.total(count(METHODS[name], lm, sizes))) for name in ("locpath", "slidechat"))
            return 1 - ours / full

        return saved

    return {
        f"{what}_{name}": share(count, of)
        for what, count in (("answer", flops.forward), ("step", flops.step))
        for name, of in (("linear", lambda f: f.linear), ("with_attention", lambda f: f.total))
    }


def _line_through(table: pd.DataFrame) -> Callable[[int], float]:
    """`step_bytes` at any n: bytes are all but linear in the tiles, on both sides."""
    if len(table) < 2:
        raise ValueError(f"bytes of a step: got {len(table)} length of slides; expected two or more for a line")
    ours, full = (np.polyfit(table["tiles"], table[name], 1) for name in ("adapters_gib", "slidechat_gib"))
    return lambda n: float(1 - np.polyval(ours, n) / np.polyval(full, n))
