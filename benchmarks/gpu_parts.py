"""The parts of `benchmarks.gpu`, each a function that yields what it finds: `python -m benchmarks.gpu_parts PART`."""

import argparse
import contextlib
import gc
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
GIB = 1024
STEPS = 16  # of the training that is killed midway


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "victim"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--bags", default="")
    parser.add_argument("--labels", default="")
    parser.add_argument("--folder", type=Path, help="of the part victim alone")
    args = parser.parse_args()
    if args.part == "victim":
        train_in(args.folder, args)
        return
    for row in PARTS[args.part](args):
        print(json.dumps({name: None if value != value else value for name, value in row.items()}), flush=True)


def tests(args: argparse.Namespace) -> Iterator[dict]:
    """(a) The tests that need a GPU; without one they say that they were skipped."""
    name = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
    yield {"device": name, "torch": torch.__version__, "python": platform.python_version()}
    modules = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    modules = modules[:1] if args.tiny else modules
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-rs", *modules]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|errors?)", done.stdout)}
    yield {"exit": done.returncode, **counts}
    for line in re.findall(r"^(?:FAILED|ERROR|SKIPPED|E  ).*", done.stdout, flags=re.M):
        yield {"pytest": line[:300]}


def steps(args: argparse.Namespace) -> Iterator[dict]:
    """(b) A stage-1 and a stage-2 step: the language model frozen, then with low-rank adapters; blocks recomputed."""
    for method in ("sparselearn", "slidechat", "all", "tcssa", "locpath"):
        for what in ("step", "lora_step"):
            yield measured(args, method, what, n=4096)


def answers(args: argparse.Namespace) -> Iterator[dict]:
    """(c) From a slide's features to the first token of an answer: compress, prefill, decode."""
    for method in ("all", "sparselearn", "tcssa", "locpath", "text_only", "slidechat"):
        yield measured(args, method, "first_token", n=10_240)


def measured(args: argparse.Namespace, method: str, what: str, *, n: int) -> dict:
    """One case of `cost.measure` in this process, its memory given back after."""
    from slidesieve.cost import measure
    from slidesieve.cost.models import Case

    decoder, n = ("tiny", n // 16) if args.tiny else ("qwen2.5-7b", n)
    case = Case(method, decoder, what, n, 32, 98, recompute=what.endswith("step"), repeats=2, device=args.device)
    start = time.monotonic()
    try:
        found = measure.run(case)
    except Exception as error:  # one method's fault must not hide the others' figures
        traceback.print_exc()
        found = measure.nothing(f"{type(error).__name__}: {error}"[:200])
    gc.collect()
    if args.device == "cuda":
        torch.cuda.empty_cache()
    row = {"what": what, "method": method, "tiles": n, "status": found["status"], "ms": round(found["ms"], 1)}
    row |= {"peak_gib": found["peak_mib"] / GIB, "reserved_gib": found.get("reserved_mib", float("nan")) / GIB}
    return row | {"above_weights_gib": found["above_mib"] / GIB, "took_s": round(time.monotonic() - start, 1)}


def kernels(args: argparse.Namespace) -> Iterator[dict]:
    """(d) Which attention ran in each way through a decoder in half precision, and for how long."""
    from slidesieve.models.prefix_lm import chain_logits, packed_logits, real_tokens_first, shared_logits, with_head

    lm, texts, prefix = decoder_and_slide(args)
    front = real_tokens_first(with_head(lm, [0, 1], prefix))
    columns = torch.arange(texts.ids.shape[1], device=args.device)
    ways = {"chain": chain_logits, "shared": shared_logits, "packed": packed_logits}
    for gradient in (False, True):
        for name, way in ways.items():
            if name == "shared" and gradient:
                continue
            front.embeds.requires_grad_(gradient)

            def call(way=way, gradient=gradient) -> None:
                with torch.set_grad_enabled(gradient):
                    logits = way(lm, front, texts, columns)
                if gradient:
                    logits.float().sum().backward()

            call()
            yield {"way": name, "gradient": gradient, **profiled(call, args.device)}


def profiled(call: Callable[[], None], device: str) -> dict:
    """The attention operators that ran, and milliseconds."""
    ms = milliseconds(call, device)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device == "cuda" else []
    with torch.profiler.profile(activities=kinds) as trace:
        call()
        now(device)
    attention = re.compile(r"aten::_(scaled_dot_product_|flash_attention|efficient_attention)\w*")
    found = {e.key.removeprefix("aten::_"): e.count for e in trace.key_averages() if attention.fullmatch(e.key)}
    return {"ms": round(ms, 1), "operators": ", ".join(f"{name} x {n}" for name, n in sorted(found.items()))}


def lengths(args: argparse.Namespace) -> Iterator[dict]:
    """(d) Bags are never of one length: what a length costs when it is new, and when it was there before."""
    from slidesieve.cost.models import decoder

    name, seen = ("tiny", range(40, 44)) if args.tiny else ("small", range(1000, 1012))
    torch.manual_seed(0)
    with torch.device(args.device):
        lm = decoder(name, torch.bfloat16 if args.device == "cuda" else torch.float32).requires_grad_(False)
    for cudnn in (True, False) if args.device == "cuda" else (False,):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        for what in ("warm-up", "new", "again"):
            took = [
                milliseconds(lambda n=n: step_of(lm, n), args.device) for n in (seen if what != "warm-up" else [99])
            ]
            yield {"cudnn": cudnn, "lengths": what, "n": len(took), "median_ms": float(np.median(took))}


def step_of(lm, n: int) -> None:
    """A forward and a backward pass over n tokens that ask for a gradient, as a projector's do."""
    weight = lm.get_input_embeddings().weight
    embeds = torch.randn(1, n, weight.shape[1], device=weight.device, dtype=weight.dtype, requires_grad=True)
    lm(inputs_embeds=embeds, use_cache=False).logits.float().logsumexp(-1).mean().backward()


def milliseconds(call: Callable[[], None], device: str) -> float:
    start = now(device)
    call()
    return 1000 * (now(device) - start)


def decoder_and_slide(args: argparse.Namespace):
    """A decoder of random weights, one turn a slide of two slides, and a prefix of unlike lengths with gaps."""
    from slidesieve.cost.models import DECODERS, decoder
    from slidesieve.models.chat import Turn, pack
    from slidesieve.models.prefix_lm import Prefix

    name, m = ("tiny", 250) if args.tiny else ("small", 4096)
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    torch.manual_seed(0)
    with torch.device(args.device):
        lm = decoder(name, dtype)
        embeds = torch.randn(2, m, DECODERS[name].width, dtype=dtype)
        mask = torch.arange(m) < torch.tensor([[m], [m - 37]])
        positions = 2 * torch.arange(m).expand(2, -1)
    lm.requires_grad_(False)
    texts = pack([[Turn([2, 3, 4], [[5, 6]])]] * 2).to(args.device)
    return lm, texts, Prefix(embeds, mask, positions, torch.full((2,), 2 * m, device=args.device))


def resume(args: argparse.Namespace) -> Iterator[dict]:
    """(d) A training killed with -9 midway and started again ends where the uninterrupted one does."""
    with tempfile.TemporaryDirectory() as temporary:
        cut, whole = Path(temporary) / "cut", Path(temporary) / "whole"
        killed_at = kill_midway(cut, args)
        whole.mkdir()
        with contextlib.redirect_stdout(sys.stderr):
            a, b = train_in(cut, args), train_in(whole, args)
        furthest = max(float((a[name].float() - b[name].float()).abs().max()) for name in b)
        moved = max(float(value.float().abs().max()) for value in b.values())
        yield {"killed_after_step": killed_at, "largest_difference": furthest, "largest_weight": moved}


def kill_midway(folder: Path, args: argparse.Namespace) -> int:
    """Start a training in a process of its own and kill it once it has saved; return the step it had told last."""
    folder.mkdir()
    words = [sys.executable, "-m", "benchmarks.gpu_parts", "victim", "--device", args.device]
    words += [f"--folder={folder}", *["--tiny"] * args.tiny]
    child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    told = 0
    for line in child.stdout:
        told = int(found[1]) if (found := re.match(r"at step (\d+)", line)) else told
        if told >= STEPS // 2:
            os.killpg(child.pid, signal.SIGKILL)
            break
    if child.wait() != -signal.SIGKILL or not (folder / "checkpoint.pt").exists():
        raise RuntimeError(f"the training ended with {child.returncode} before it could be killed midway")
    return told


def train_in(folder: Path, args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Train SparseLearn on noise for some steps, saving as it goes; return the weights that learn."""
    from slidesieve.cost.models import slide
    from slidesieve.datasets.examples import Example
    from slidesieve.training import loop

    model = little_model("sparselearn", args, d=64)
    bags = {f"s{i}": slide(200 + 17 * i, 64)._replace(slide_id=f"s{i}") for i in range(8)}
    taught = [Example(s, None, (("Is cyst present?", "yes" if i % 2 else "no"),)) for i, s in enumerate(bags)]
    feed = loop.Feed(model, bags, [loop.Phase(taught, STEPS, 4)], seed=0, max_tiles=4096)

    def tell(model, step: int) -> None:
        print(f"at step {step}", flush=True)
        time.sleep(0.02)  # it is to be caught

    fit(model, feed, args, checkpoint=folder / "checkpoint.pt", before_step=tell, save_minutes=0)
    return {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}


def fit(model, feed, args: argparse.Namespace, *, checkpoint: Path, before_step, save_minutes: float):
    from slidesieve.training import loop

    rates = {"compressor": 1e-3, "projector": 1e-3, "reader": 2e-3, "lm": 1e-3}
    half = "bf16" if args.device == "cuda" else "no"
    settings = loop.Settings(rates, 0.01, warmup=10, clip=1.0, mixed_precision=half)
    return loop.fit(
        model, loop.AnswerLoss(feed), settings, seed=0, checkpoint=checkpoint, save_minutes=save_minutes,
        evaluate=lambda model, share: 0.0, evaluations=1,
        before_step=before_step, device=args.device,
    )  # fmt: skip


def little_model(compressor: str, args: argparse.Namespace, *, d: int):
    """A method in front of a random decoder with the toy's words, low-rank adapters on it."""
    from slidesieve.models.checkpoints import build_vlm
    from slidesieve.synthetic.language import build_lm, build_tokenizer

    width, layers = (64, 2) if args.tiny else (512, 8)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = build_tokenizer()
        build_lm(tokenizer, width=width, layers=layers, heads=8, seed=0).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        options = {"scorer_width": 64, "scorer_heads": 4} if compressor == "sparselearn" else {}
        model = build_vlm(folder, compressor, d=d, k=8, seed=0, options=options, projector_width=width)
    model.add_lora(rank=16, alpha=32, dropout=0.0)
    return model


def tiles(args: argparse.Namespace) -> Iterator[dict]:
    """(e) Tiles a second of a ViT-L/16 at 224 px by random weights: end to end, and the network alone."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    from slidesieve.features.encoders import load_encoder

    size = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    if args.tiny:
        size = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    n = 32 if args.tiny else 2048
    shown = np.random.default_rng(0).integers(0, 255, (n, 224, 224, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        ViTModel(ViTConfig(**size)).to(torch.bfloat16).save_pretrained(folder)
        ViTImageProcessorPil().save_pretrained(folder)
        for dtype in ("bfloat16", "float32"):
            encoder = load_encoder(folder, device=args.device, batch_tiles=256, dtype=dtype)
            encoder.encode(shown[:256])
            start = now(args.device)
            encoder.encode(shown)
            yield {"dtype": dtype, "what": "images to features", "tiles_a_second": n / (now(args.device) - start)}
            pixels = torch.randn(min(n, 256), 3, 224, 224, device=args.device, dtype=encoder._model.dtype)
            with torch.inference_mode():
                encoder._model(pixel_values=pixels)
                start = now(args.device)
                for _ in range(max(1, n // 256)):
                    encoder._model(pixel_values=pixels)
            done = len(pixels) * max(1, n // 256)
            yield {"dtype": dtype, "what": "network alone", "tiles_a_second": done / (now(args.device) - start)}


def bags(args: argparse.Namespace) -> Iterator[dict]:
    """(f) A short training on real slides, a label asked as yes or no, patients kept apart; a random decoder."""
    from slidesieve.datasets.examples import Example
    from slidesieve.training import loop

    if not (args.bags and args.labels):
        yield {"status": "left out: no --bags and --labels"}
        return
    held, sides, answer = real_slides(args)
    for compressor in ("all", "sparselearn", "tcssa", "mean"):
        model = little_model(compressor, args, d=next(iter(held.values())).x.shape[1])
        taught = [Example(s, None, (("Is cyst present?", answer[s]),)) for s in sides["train"]]
        steps = 4 if args.tiny else 100
        feed = loop.Feed(model, held, [loop.Phase(taught, steps, 16)], seed=0, max_tiles=256)
        model.fit_features(feed(0)[0])
        with tempfile.TemporaryDirectory() as folder:
            start = now(args.device)
            table = fit(
                model, feed, args, checkpoint=Path(folder) / "checkpoint.pt",
                before_step=loop.cooling(1.0, 0.1, steps // 2), save_minutes=10,
            )  # fmt: skip
            seconds = now(args.device) - start
        row = {"method": compressor, "k": 8, "steps": steps, "ms_a_step": 1000 * seconds / steps}
        row |= {"first_loss": table["loss"].iloc[0], "last_loss": table["loss"].tail(10).mean()}
        yield row | {"test_auroc": unseen_auroc(model, held, sides["test"], answer), "test_slides": len(sides["test"])}


def real_slides(args: argparse.Namespace):
    """Bags, slides on each side by patient (a seeded fifth is test), and each slide's yes or no."""
    import pandas as pd

    from slidesieve.features.store import PackedStore

    store, table = PackedStore(Path(args.bags)), pd.read_csv(args.labels, dtype=str)
    table["slide_id"] = table["slide_id"].str.removesuffix(".svs")
    table = table[table["slide_id"].isin(set(store.slide_ids))].sample(frac=1, random_state=0)
    table = table.head(60 if args.tiny else None)
    patients = np.random.default_rng(0).permutation(sorted(set(table["case_id"])))
    unseen = table["case_id"].isin(set(patients[: len(patients) // 5]))
    first = sorted(set(table["oncotree_code"]))[0]
    answer = dict(zip(table["slide_id"], np.where(table["oncotree_code"] == first, "yes", "no"), strict=True))
    sides = {"train": table.loc[~unseen, "slide_id"].tolist(), "test": table.loc[unseen, "slide_id"].tolist()}
    return {s: store.read(s) for s in answer}, sides, answer


def unseen_auroc(model, held, slides: list[str], answer: dict[str, str]) -> float:
    """How well log p(yes) - log p(no) orders slides of unseen patients."""
    from sklearn.metrics import roc_auc_score

    from slidesieve.answers.answering import answer as ask
    from slidesieve.datasets.questions import Question

    asked = [Question(s, s, "", "", "Is cyst present?", ("yes", "no"), ("yes", "no").index(answer[s])) for s in slides]
    table = ask(model, asked, held, answer_form="text", batch_tokens=65_536).set_index("ID").loc[slides]
    return float(roc_auc_score([answer[s] == "yes" for s in slides], table["logp_A"] - table["logp_B"]))


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


PARTS = {f.__name__: f for f in (tests, steps, answers, kernels, lengths, resume, tiles, bags)}

if __name__ == "__main__":
    main()
