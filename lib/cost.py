"""What a method costs on the device at hand: parameters, seconds and peak memory, with a decoder of random weights.

Each `Case` runs in a process of its own, so that no peak leaks into the next: `step` is one training step as notebook
40 takes it (both passes, optimiser; the language model frozen, all else learns), `lora_step` one of notebook 50,
`first_token` is compress + prefill + the likeliest token, `prefill` the same from visual tokens that are there already.
Memory is, on a GPU, the allocator's (allocated, reserved); on a CPU the process's resident set as Linux keeps it.
Slides, weights and words are noise: times depend on none of them.
"""

import ctypes
import itertools
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from lib.batch import collate
from lib.compressors import COMPRESSORS
from lib.compressors.slidechat import LongNet
from lib.examples import Example
from lib.features import Bag, make_bag
from lib.feed import Feed, Phase
from lib.flops import Decoder, Sizes, method_named
from lib.latent_reader import LatentReader
from lib.prefix_lm import greedy
from lib.prompts import pack
from lib.training_step import Settings, one_batch, parameter_groups, recomputing, set_modes
from lib.vlm import VLM, Projector

# "small" keeps Qwen2's shape (feed-forward of several widths, grouped keys) at a size that a CPU trains at 4,096 tokens
DECODERS = {
    "tiny": Decoder(width=128, ffn=512, layers=4, heads=4, kv_heads=2, vocabulary=4096),
    "small": Decoder(width=512, ffn=2048, layers=12, heads=8, kv_heads=2, vocabulary=8192),
    "qwen2.5-7b": Decoder(width=3584, ffn=18_944, layers=28, heads=28, kv_heads=4, vocabulary=152_064),
}
LARGE = 10**9  # weights of a decoder that a CPU is not asked to run
WHATS = ("step", "lora_step", "first_token", "prefill")
RATES = {"slide_encoder": 1e-4, "compressor": 1e-4, "projector": 1e-3, "reader": 1e-4}
TILE_PX0 = 224
MIB = 2**20


class Case(NamedTuple):
    """One measurement: n tiles of width d (also of latents), k tokens, text tokens in all, medians of `repeats`."""

    method: str
    decoder: str
    what: str
    n: int
    k: int
    text: int
    latents: int = 128
    d: int = 512
    scorer_attention: str = "global"
    lora_rank: int = 64
    recompute: bool = False  # blocks of the language model in the backward pass
    repeats: int = 3
    device: str = "cpu"
    threads: int = 1
    force: bool = False  # also a large decoder on a CPU

    @property
    def sizes(self) -> Sizes:
        return Sizes(
            self.n, self.k, self.text, d=self.d, projector_width=DECODERS[self.decoder].width,
            scorer_attention=self.scorer_attention, latents=self.latents, latent_width=self.d,
        )  # fmt: skip


def measure_all(cases: Sequence[Case]) -> pd.DataFrame:
    """One row a case, in order; `status` is "ok", or why there are no numbers. Prints each as it ends."""
    rows = []
    for case in cases:
        rows.append(measure(case))
        told = f"{rows[-1]['ms']:,.0f} ms" if rows[-1]["status"] == "ok" else rows[-1]["status"]
        print(f"{case.method}, {case.what}, {case.n:,} tiles: {told}", flush=True)
    return pd.DataFrame(rows)


def measure(case: Case) -> dict[str, object]:
    """Run a case in a fresh process. Raises ValueError for unknown names; running out of memory is a status."""
    if case.decoder not in DECODERS or case.what not in WHATS:
        raise ValueError(
            f"cost: got decoder {case.decoder!r} and {case.what!r}; expected one of {', '.join(DECODERS)} and one of "
            f"{', '.join(WHATS)}"
        )
    method_named(case.method)
    known = {name: value for name, value in case._asdict().items() if name not in ("force", "threads", "repeats")}
    if case.device == "cpu" and DECODERS[case.decoder].weights > LARGE and not case.force:
        return known | nothing("refused: a large decoder on a CPU; set force, or device to cuda")
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(["lib.cost"])
    with ProcessPoolExecutor(1, mp_context=fork) as pool:
        try:
            return known | pool.submit(run, case).result()
        except BrokenProcessPool:
            return known | nothing("killed, most likely out of memory")


def run(case: Case) -> dict[str, object]:
    """Build, warm up and time a case in this process."""
    torch.set_num_threads(case.threads)
    try:
        model = build(case)
        call = ready(model, case)
        if not case.what.endswith("step"):
            call()  # libraries come into memory; a step's first call is measured, for it makes AdamW's moments
        with recomputing(model.lm, case.recompute), peak_memory(case.device) as memory:
            call()
            times = [timed(call, case.device) for _ in range(case.repeats)]
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        return nothing("out of memory")
    wall, processor = zip(*times, strict=True)
    return {
        "status": "ok",
        "ms": 1000 * statistics.median(wall),
        "ms_min": 1000 * min(wall),
        "ms_max": 1000 * max(wall),
        "processor_ms": 1000 * statistics.median(processor),
        **memory,
        "learns": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "on": torch.cuda.get_device_name() if case.device == "cuda" else f"CPU, {case.threads} threads",
    }


def nothing(status: str) -> dict[str, object]:
    return {"status": status, "ms": np.nan, "peak_mib": np.nan, "above_mib": np.nan}


def build(case: Case) -> VLM:
    """The model as `checkpoints.build_vlm` makes it, where it will run: bf16 decoder on a GPU, float32 on a CPU."""
    torch.manual_seed(0)
    with torch.device(case.device):
        lm = decoder(case.decoder, torch.bfloat16 if case.device == "cuda" else torch.float32)
    parts = parts_of(case, lm)
    reader, encoder = parts.get("reader"), parts.get("slide encoder")
    width = DECODERS[case.decoder].width
    model = VLM(lm, words(), parts["compressor"], d=case.d, projector_width=width, slide_encoder=encoder, reader=reader)
    model.recipe = {"compressor": method_named(case.method).compressor, "k": case.k, "seed": 0}
    return model.to(case.device)


def decoder(name: str, dtype: torch.dtype) -> nn.Module:
    width, ffn, layers, heads, kv_heads, vocabulary = DECODERS[name]
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=ffn, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, rope_theta=1e6, tie_word_embeddings=False,
        max_position_embeddings=65_536,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")


def parts_of(case: Case, lm: nn.Module) -> dict[str, nn.Module]:
    """Everything of ours, by the names that `flops.forward` gives."""
    method, s = method_named(case.method), case.sizes
    options = {
        "locpath": {"latents": s.latents, "latent_width": s.latent_width},
        "sparselearn": {"scorer_attention": s.scorer_attention, "tau": 0.1},
    }
    made = COMPRESSORS[method.compressor](s.d, s.k, **options.get(method.compressor, {}))
    parts = {"slide encoder": LongNet(s.d)} if method.slide_encoder == "longnet" else {}
    if method.adapters:
        return parts | {"compressor": made, "reader": LatentReader(lm, made.width, s.k)}
    return parts | {"compressor": made, "projector": Projector(s.d, s.projector_width, DECODERS[case.decoder].width)}


def parameters(case: Case) -> dict[str, int]:
    """Parameters of each part, language model included, counted without any memory for them."""
    with torch.device("meta"):
        lm = decoder(case.decoder, torch.float32)
        parts = parts_of(case, lm) | {"language model": lm}
    return {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}


def ready(model: VLM, case: Case) -> Callable[[], object]:
    """What is timed, with all that it needs in place."""
    if case.what.endswith("step"):
        return training_step(model, case)
    model.eval()
    batch = collate([slide(case.n, case.d)]).to(case.device)
    turn = model.chat.turn(prompt_of(model, case.text), [])
    texts = pack([[turn]]).to(case.device)

    @torch.no_grad()
    def prefix():
        return model.prefix(model.compress(batch), texts)

    def first_token(given):
        return greedy(model.lm, model.chat.head, given, turn.prompt, stops=set(), most=1)

    if case.what == "first_token":
        return lambda: first_token(prefix())
    given = prefix()
    return lambda: first_token(given)


def training_step(model: VLM, case: Case) -> Callable[[], object]:
    """One step of stage 1, or with low-rank adapters one of stage 2; a new one at each call."""
    rates = dict(RATES)
    if case.what == "lora_step":
        model.add_lora(rank=case.lora_rank, alpha=2 * case.lora_rank, dropout=0.05)
        model.to(case.device)
        rates["lm"] = 2e-4
    settings = Settings(rates, 0.01, warmup=1, clip=1.0, mixed_precision="bf16" if case.device == "cuda" else "no")
    accelerator = Accelerator(cpu=case.device == "cpu", mixed_precision="no")
    optimizer = torch.optim.AdamW(parameter_groups(model, rates), weight_decay=settings.weight_decay)
    turn = (prompt_of(model, case.text - 2), "a")  # the answer and its end are two tokens
    phase = Phase([Example("slide", None, (turn,))], 10**6, 1)
    feed = Feed(model, {"slide": slide(case.n, case.d)}, [phase], seed=0, max_tiles=case.n)
    numbers = itertools.count()

    def step() -> None:
        set_modes(model, rates)
        one_batch(accelerator, model, optimizer, feed, settings, 0, next(numbers))

    return step


def slide(n: int, d: int) -> Bag:
    """Noise on a full grid, about as wide as high."""
    x = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    columns = 2 * max(1, round(n**0.5 / 2))
    row, column = np.divmod(np.arange(n), columns)
    return make_bag("slide", x, TILE_PX0 * np.stack([column, row], axis=1), {})


def words() -> PreTrainedTokenizerFast:
    """A tokenizer of one-letter words: a token each."""
    names = {name: i for i, name in enumerate(("<end>", "<user>", "<assistant>", "a"))}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for m in messages %}<user> {{ m.content }} {% endfor %}<assistant> "
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", chat_template=template)


def prompt_of(model: VLM, tokens: int) -> str:
    """A question that makes so many text tokens in all, those of the chat turn around it included."""
    around = len(model.chat.head) + len(model.chat.turn("", []).prompt)
    if tokens <= around:
        raise ValueError(f"cost: got {tokens} text tokens; expected more than the chat turn's own {around}")
    return " ".join(["a"] * (tokens - around))


def timed(call: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds by the clock, once the GPU has done all it was asked, and seconds of the processor."""
    start, worked = now(device), time.process_time()
    call()
    return now(device) - start, time.process_time() - worked


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def peak_memory(device: str) -> Iterator[dict[str, float]]:
    """Fill in, at the end, MiB at the peak, and above what stood there before (weights and inputs)."""
    memory: dict[str, float] = {}
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield memory
        peak = torch.cuda.max_memory_allocated()
        memory["reserved_mib"] = torch.cuda.max_memory_reserved() / MIB
    else:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back, or the peak would hide in it
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        yield memory
        peak = resident("VmHWM")
    memory |= {"peak_mib": peak / MIB, "above_mib": (peak - before) / MIB}


def resident(field: str) -> int:
    """Bytes of this process in memory now (VmRSS), or at most (VmHWM).

    Not `getrusage`: its peak begins at that of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status)[1])
