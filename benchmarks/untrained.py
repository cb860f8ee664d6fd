"""What a rival without training costs on one slide, beside one product of its tiles with as many tokens.

A slide that comes again is looked up: `again` is what that takes.

python -m benchmarks.untrained [N ...]
"""

import sys
import time

import torch

from slidesieve.compressors.registry import COMPRESSORS

K, WIDTHS, REPEATS = 32, (512, 1536), 3
NAMES = [name for name in COMPRESSORS if "untrained" in COMPRESSORS[name].__module__]


def seconds(work) -> float:
    """Processor seconds of the fastest of a few calls."""
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    torch.set_num_threads(1)
    lengths = [int(word) for word in sys.argv[1:]] or [1_000, 10_000]
    heads = (f"k = {K}, one thread", "tiles", "width", "seconds", "times n x n x d", "times n x k x d", "again, s")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for n in lengths:
        for d in WIDTHS:
            x = torch.randn(1, n, d, generator=torch.Generator().manual_seed(0))
            side = int(n**0.5) + 1
            coords = torch.stack([torch.arange(n) % side, torch.arange(n) // side], -1)[None] * 256
            mask = torch.ones(1, n, dtype=torch.bool)
            pairs = seconds(lambda x=x: [part @ x[0].T for part in x[0].split(256)])
            few = seconds(lambda x=x: x[0] @ x[0, :K].T)
            for name in NAMES:
                given, made = (x, coords, mask), COMPRESSORS[name](d, K).eval()
                with torch.no_grad():
                    took = seconds(lambda name=name, d=d, given=given: COMPRESSORS[name](d, K).eval()(*given))
                    again = seconds(lambda made=made, given=given: made(*given))
                told = f"{took:.3f} | {took / pairs:.2f} | {took / few:.0f} | {again:.3f}"
                print(f"| {name} | {n:,} | {d} | {told} |", flush=True)


if __name__ == "__main__":
    main()
