"""What 32 tokens of 100,000 tiles cost beside attention pooling, one matrix product with the bag and one read of it.

    OMP_NUM_THREADS=1 python -m benchmarks.select_tokens
    OMP_NUM_THREADS=1 python -m benchmarks.select_tokens --every --tiles 100000 1000000  # every compressor's inference

Each measurement has a process of its own. Seconds are those of the processor (user and system), which a busy machine
stretches less than the clock's; the file is in the page cache. Memory is the peak of the resident set during the call
over the resident set before it (Linux: VmHWM, reset through /proc/self/clear_refs). Attention over n tiles takes time
in n^2 whatever one does; memory must stay linear. The scorer's width and heads are those of notebooks 40 and 50; at
--width 512 --heads 8, the class's own, global attention over 100,000 tiles takes 4e13 operations: minutes a core.
"""

import argparse
import math
import multiprocessing
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.features.bag import make_bag
from slidesieve.features.store import read_features, write_features
from slidesieve.mil.models import bag_model

REFERENCES = ("one read of the bag", "one n x d x d product")
LONG_S = 20.0  # a call that takes longer is not repeated


class Cost(NamedTuple):
    """Best time of up to three calls; the first call's peak memory over what was there before, and all in all."""

    seconds: float
    extra_bytes: int
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs=2, default=[10_000, 100_000], help="two bag lengths")
    parser.add_argument("--d", type=int, default=512, help="feature width")
    parser.add_argument("--k", type=int, default=32, help="tiles kept")
    parser.add_argument("--width", type=int, default=64, help="width of the scorer")
    parser.add_argument("--heads", type=int, default=4, help="heads of the scorer")
    parser.add_argument("--only", default="", help="calls to time, separated by ;; empty: all")
    parser.add_argument("--every", action="store_true", help="every compressor's inference, and nothing else")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = parser.parse_args()

    wanted = args.only.split(";") if args.only else EVERY if args.every else DEFAULT
    asked = [name for name in CALLS if name in wanted or name in REFERENCES]
    costs: dict[str, list[Cost]] = {name: [] for name in asked}
    with tempfile.TemporaryDirectory() as folder:
        for n in args.tiles:
            path = Path(folder) / f"{n}.h5"
            x = np.random.default_rng(0).standard_normal((n, args.d), dtype=np.float32)
            row, column = np.divmod(np.arange(n), round(n**0.5))  # a full grid
            write_features(path, make_bag(str(n), x, 224 * np.stack([column, row], axis=1), {}), {})
            for name in asked:
                costs[name].append(in_own_process(name, path, args))
                print(f"{name}, {n:,} tiles: {costs[name][-1].seconds:.3f} s", flush=True)
    print(table(costs, args.tiles, args.d))


def in_own_process(name: str, path: Path, args: argparse.Namespace) -> Cost:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (name, path, args))


def measure(name: str, path: Path, args: argparse.Namespace) -> Cost:
    torch.set_num_threads(args.threads)
    with torch.no_grad():
        call = CALLS[name](path, args)
        seconds, extra, peak = [], 0, 0
        while not seconds or (len(seconds) < 3 and seconds[-1] < LONG_S):
            Path("/proc/self/clear_refs").write_text("5")
            before, start = resident("VmRSS"), time.process_time()
            result = call()
            seconds.append(time.process_time() - start)
            peak = peak or resident("VmHWM")
            extra = extra or peak - before
            del result
    return Cost(min(seconds), extra, peak)


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def read(path: Path, args: argparse.Namespace):
    read_features(path)  # into the page cache
    return lambda: read_features(path)


def product(path: Path, args: argparse.Namespace):
    x, w = torch.from_numpy(read_features(path).x), torch.randn(args.d, args.d)
    x[:100] @ w
    return lambda: x @ w


def bag_call(path: Path, args: argparse.Namespace, model: nn.Module, *, backward: bool = False):
    """A call of the model on the whole bag, in evaluation; with `backward` in training, with its gradients."""
    bag = read_features(path)
    x, coords = torch.from_numpy(bag.x)[None], torch.from_numpy(bag.coords)[None]
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    model.train(backward)
    if hasattr(model, "once"):
        model.once = lambda given, find: find()  # what was found is not remembered from call to call

    def call(x=x, coords=coords, mask=mask):
        with torch.set_grad_enabled(backward):
            out = model(x, coords, mask)
            if not backward:
                return out
            value = out.tokens.square().mean() + out.aux_loss if hasattr(out, "tokens") else out[0].sum()
            value.backward()
            model.zero_grad()

    call(x[:, :100], coords[:, :100], mask[:, :100])
    return call


def scored(path: Path, args: argparse.Namespace, *, name: str = "sparselearn", attention: str):
    options = {"scorer_width": args.width, "scorer_heads": args.heads, "scorer_attention": attention}
    return bag_call(path, args, COMPRESSORS[name](args.d, args.k, **options))


def mixing(path: Path, args: argparse.Namespace, *, name: str, **how):
    """A compressor that mixes tiles, with its own defaults."""
    return bag_call(path, args, COMPRESSORS[name](args.d, args.k), **how)


def abmil(path: Path, args: argparse.Namespace, *, name: str, **how):
    return bag_call(path, args, bag_model(name, d=args.d, classes=2, k=0, seed=0), **how)


CALLS = {
    "one read of the bag": read,
    "one n x d x d product": product,
    "sparselearn, scorer none": partial(scored, attention="none"),
    "sparselearn, scorer global": partial(scored, attention="global"),
    "tcssa": partial(mixing, name="tcssa"),
    "tcssa, with gradients": partial(mixing, name="tcssa", backward=True),
    "locpath": partial(mixing, name="locpath"),
    "locpath, with gradients": partial(mixing, name="locpath", backward=True),
    "ABMIL": partial(abmil, name="abmil"),
    "ABMIL, with gradients": partial(abmil, name="abmil", backward=True),
    "gated ABMIL": partial(abmil, name="gated_abmil"),
    "gated ABMIL, with gradients": partial(abmil, name="gated_abmil", backward=True),
}
DEFAULT = list(CALLS)
CALLS["sieve, scorer none"] = partial(scored, name="sieve", attention="none")
CALLS |= {name: partial(mixing, name=name) for name in COMPRESSORS if name not in ("sparselearn", "sieve", *CALLS)}
QUADRATIC = ("tome", "sparselearn, scorer global")  # in time: hours at 10^6 on a core
EVERY = [name for name in CALLS if (name in COMPRESSORS or name.endswith("scorer none")) and name not in QUADRATIC]


def table(costs: dict[str, list[Cost]], tiles: list[int], d: int) -> str:
    """One row a call: seconds and memory at both lengths, growth exponents, ratios at the longer one."""
    few, many = tiles
    bag_bytes = many * d * 4
    both = f"{few:>10,}{many:>10,}{'exp':>7}"
    lines = [
        f"{'':28}{'CPU seconds':>20}{'':7}{'peak extra MB':>20}{'':7}"
        f"{f'at {many:,}: time over':>26}{'memory':>10}{'peak':>8}",
        f"{'':28}{both}{both}{'read':>13}{'product':>13}{'over bag':>10}{'GiB':>8}",
    ]
    for name, (short, long) in costs.items():
        lines.append(
            f"{name:28}{short.seconds:>10.4f}{long.seconds:>10.3f}{exponent(short.seconds, long.seconds, tiles):>7.2f}"
            f"{short.extra_bytes / 1e6:>10.1f}{long.extra_bytes / 1e6:>10.1f}"
            f"{exponent(short.extra_bytes, long.extra_bytes, tiles):>7.2f}"
            f"{long.seconds / costs['one read of the bag'][1].seconds:>13.1f}"
            f"{long.seconds / costs['one n x d x d product'][1].seconds:>13.1f}"
            f"{long.extra_bytes / bag_bytes:>10.1f}{long.peak_bytes / 2**30:>8.2f}"
        )
    return "\n".join(lines)


def exponent(short: float, long: float, tiles: list[int]) -> float:
    """p of cost ~ n^p between the two lengths."""
    return math.log(max(long, 1e-9) / max(short, 1e-9)) / math.log(tiles[1] / tiles[0])


if __name__ == "__main__":
    main()
