"""What training and answering cost at the paper's size: Qwen2.5-7B, 4,096 tiles, 32 kept, random weights.

    python -m benchmarks.paper_size --device cuda --out runs/paper_size
    python -m benchmarks.paper_size --device cpu --lm-config tiny --n 512 --lora-rank 8 --out runs/paper_size_tiny

A dry run of the very code that notebooks 40, 50 and 60 call: SparseLearn over the LongNet slide encoder, projector
512 -> 3584 -> 3584, bf16, recomputed blocks, one slide a step. Stage 1 trains all but the language model, stage 2 the
adapters, the projector and the selector. Answering decodes one word from K tokens, and from all tiles. Nothing is
downloaded: the architecture is Qwen2.5-7B's, its weights are noise, its words are the toy tokenizer's; the vocabulary
stays 152,064 wide. Times are medians after warm-up. Memory is the allocator's peak on a GPU (allocated, reserved), and
the process's resident set on a CPU, sampled.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from lib import scoring, training
from lib.compressors import COMPRESSORS
from lib.compressors.slidechat import LongNet
from lib.examples import Example
from lib.features import Bag, make_bag
from lib.questions import Question
from lib.synthetic.language import build_tokenizer
from lib.vlm import VLM

VOCABULARY = 152_064
CONFIGS = {
    "qwen2.5-7b": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}  # fmt: skip
WARM_UP = 2  # steps, and answers, before the clock starts
QUESTION = Question("q", "slide", "", "", "Which finding is present?", ("abscess", "cyst", "necrosis", "none"), 0)
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--lm-config", choices=sorted(CONFIGS), default="qwen2.5-7b")
    parser.add_argument("--n", type=int, default=4096, help="tiles of the slide in training")
    parser.add_argument("--answer-n", type=int, default=0, help="tiles of the slide when answering; 0: --n")
    parser.add_argument("--d", type=int, default=512, help="feature width")
    parser.add_argument("--k", type=int, default=32, help="tokens kept")
    parser.add_argument("--lora-rank", type=int, default=64, help="rank of the adapters; alpha is twice that")
    parser.add_argument("--caption-tokens", type=int, default=256, help="length of a caption, in tokens")
    parser.add_argument("--steps", type=int, default=5, help="steps, and answers, that are timed")
    parser.add_argument("--force", action="store_true", help="also a large language model on the CPU: 15 GB and hours")
    parser.add_argument("--out", type=Path, required=True, help="folder for paper_size.csv")
    args = parser.parse_args()
    if args.device == "cpu" and args.lm_config != "tiny" and not args.force:
        parser.error(f"--lm-config {args.lm_config} on a CPU needs --force; --lm-config tiny checks the code")

    model = build(args)
    table = pd.DataFrame([*train(model, args), *answer(model, args)])
    args.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out / "paper_size.csv", index=False)
    print(table.round(2).to_string(index=False))
    print(summary(table, model, args))


def build(args: argparse.Namespace) -> VLM:
    """The model as the preset has it, made where it will run: bf16 language model, everything of ours in float32."""
    config = Qwen2Config(
        vocab_size=VOCABULARY, rope_theta=1e6, tie_word_embeddings=False, max_position_embeddings=65_536,
        **CONFIGS[args.lm_config],
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(args.device):
        lm = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    selector = COMPRESSORS["sparselearn"](args.d, args.k, scorer_width=args.d, tau=0.1)
    model = VLM(
        lm, build_tokenizer(), selector, d=args.d, projector_width=config.hidden_size, slide_encoder=LongNet(args.d)
    )
    model.recipe = {"compressor": "sparselearn", "k": args.k, "seed": 0}
    return model.to(args.device)


def train(model: VLM, args: argparse.Namespace) -> Iterator[dict]:
    """One row a stage, as notebooks 40 and 50 train it."""
    caption = " ".join(["necrosis"] * (args.caption_tokens - 1))
    turn = (scoring.prompt(QUESTION), "A")
    ours = {"slide_encoder": 1e-4, "compressor": 1e-4, "projector": 1e-3}
    yield fitted("stage 1: captions", model, ("Describe the slide.", caption), ours, args)
    model.add_lora(rank=args.lora_rank, alpha=2 * args.lora_rank, dropout=0.05)
    model.to(args.device)
    yield fitted("stage 2: questions", model, turn, ours | {"slide_encoder": 0.0, "lm": 2e-4}, args)


def fitted(
    name: str, model: VLM, turn: tuple[str, str], rates: dict[str, float], args: argparse.Namespace
) -> dict[str, object]:
    """Cost of a step of `training.fit`: reading the batch, both passes, the optimiser."""
    phases = [training.Phase([Example("slide", None, (turn,))], WARM_UP + args.steps, 1)]
    feed = training.Feed(model, slide(args.n, args.d), phases, seed=0, max_tiles=args.n)
    settings = training.Settings(rates, 0.01, warmup=1, clip=1.0, mixed_precision="bf16", gradient_checkpointing=True)
    started: list[float] = []

    def start(model: VLM, step: int) -> None:
        started.append(now(args.device))

    def stop(model: VLM) -> float:
        started.append(now(args.device))
        return 0.0

    with tempfile.TemporaryDirectory() as folder, peak_memory(args.device) as memory:
        history = training.fit(
            model, feed, settings, seed=0, checkpoint=Path(folder) / "checkpoint.pt", save_every=10**9, evaluate=stop,
            evaluate_every=10**9, before_step=start, device=args.device,
        )  # fmt: skip
    if not np.isfinite(history["loss"]).all():
        raise RuntimeError(f"{name}: the loss is {history['loss'].tolist()}; expected finite numbers")
    learns = sum(p.numel() for p in model.parameters() if p.requires_grad)
    text = int(feed(0)[1].ids.shape[1])
    return row(name, args.n, args.n, text, np.diff(started)[WARM_UP:]) | memory | {"learns_millions": learns / 1e6}


def answer(model: VLM, args: argparse.Namespace) -> Iterator[dict]:
    """Time to the first word of a greedy answer, from the kept tiles and from all of them."""
    n = args.answer_n or args.n
    bags, selector = slide(n, args.d), model.compressor
    for name, compressor, m in (
        (f"answer, K = {args.k}", selector, min(args.k, n)),
        ("answer, all tiles", COMPRESSORS["all"](args.d), n),
    ):
        model.compressor = compressor
        model.eval()
        call = lambda: scoring.generate(model, [QUESTION], bags, answer_form="letter", most_tokens=1)  # noqa: E731
        for _ in range(WARM_UP):
            call()
        with peak_memory(args.device) as memory:
            seconds = [timed(call, args.device) for _ in range(args.steps)]
        text = len(model.chat.turn(scoring.prompt(QUESTION), []).prompt)
        yield row(name, n, m, text, seconds) | memory
    model.compressor = selector


def row(name: str, n: int, m: int, text: int, seconds) -> dict[str, object]:
    return {
        "what": name, "tiles": n, "visual_tokens": m, "text_tokens": text,
        "ms": 1000 * statistics.median(seconds), "ms_min": 1000 * min(seconds), "ms_max": 1000 * max(seconds),
    }  # fmt: skip


def slide(n: int, d: int) -> dict[str, Bag]:
    x = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    return {"slide": make_bag("slide", x, None, {})}


def timed(call: Callable[[], object], device: str) -> float:
    start = now(device)
    call()
    return now(device) - start


def now(device: str) -> float:
    """Seconds, once the GPU has done all it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def peak_memory(device: str) -> Iterator[dict[str, float]]:
    """Fill in, at the end, the peak in GiB: of the GPU's allocator, or of this process's resident set."""
    peak: dict[str, float] = {}
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak["allocated_gib"] = torch.cuda.max_memory_allocated() / GIB
        peak["reserved_gib"] = torch.cuda.max_memory_reserved() / GIB
        return
    seen, done = [psutil.Process().memory_info().rss], threading.Event()

    def sample() -> None:
        while not done.wait(0.01):
            seen.append(psutil.Process().memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    yield peak
    done.set()
    thread.join()
    peak["resident_gib"] = max(seen) / GIB


def summary(table: pd.DataFrame, model: VLM, args: argparse.Namespace) -> str:
    memory = "reserved_gib" if args.device == "cuda" else "resident_gib"
    first, second, kept, every = table.to_dict("records")
    size = sum(p.numel() for p in model.lm.parameters()) / 1e9
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    return (
        f"{where}, {args.lm_config} ({size:.2f} B with adapters), {args.n:,} tiles: "
        f"stage 1 {first['ms']:.0f} ms a step, {first[memory]:.1f} GiB; "
        f"stage 2 {second['ms']:.0f} ms, {second[memory]:.1f} GiB; "
        f"first word {kept['ms']:.0f} ms from K = {args.k}, {every['ms']:.0f} ms from all "
        f"({every['ms'] / kept['ms']:.1f} x), {kept[memory]:.1f} and {every[memory]:.1f} GiB"
    )


if __name__ == "__main__":
    main()
