"""Closed forms of a plan against what happens on tiny models: operations, tokens, bytes written, values kept."""

from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import get_constant_schedule

from slidesieve.answers import answering
from slidesieve.answers.generating import Prompted, said
from slidesieve.compressors.locpath import LoCPath
from slidesieve.cost import flops, methods
from slidesieve.cost.methods import Sizes
from slidesieve.cost.models import Case, build, decoder, slide
from slidesieve.cost.plan_cost import (
    ON_DISK_BYTES,
    decoded_operations,
    decoded_tokens,
    read_operations,
    read_tokens,
    step_operations,
    trained_tokens,
)
from slidesieve.cost.plan_memory import Load, block_bytes, decoding_bytes, decoding_load
from slidesieve.cost.plan_pretraining import parameters
from slidesieve.cost.plan_sizes import described, model_of, passes
from slidesieve.cost.plan_work import Item, Work
from slidesieve.datasets.questions import Question
from slidesieve.features.bag import collate, make_bag
from slidesieve.models.chat import pack
from slidesieve.training.masked import MaskedAutoencoder, loss
from slidesieve.training.state import RunState, trainable_state
from slidesieve.training.step import parameter_groups, recomputing, set_modes

D, K, RANK = 64, 7, 3
RATES = {"slide_encoder": 1e-3, "compressor": 1e-3, "projector": 1e-3, "reader": 1e-3}
METHODS = ("slidechat", "all", "sparselearn", "tcssa", "locpath", "mean", "random", "text_only")


def values(method: str, **others) -> dict[str, object]:
    case = Case(method, "tiny", "step", 91, K, 1, latents=5, d=D)
    own = {"k": K, **{n: getattr(methods.METHODS[method], n) for n in ("compressor", "slide_encoder")}}
    sizes = {
        n: v for n, v in case.sizes._asdict().items() if n not in ("n", "k", "text", "d", "windows", "scorer_width")
    }
    shape = {"adapter_heads": 8, "resampler_heads": 8, "device": "cpu", "mixed_precision": "no", "window": 2}
    return own | sizes | shape | {"gradient_checkpointing": False} | others


def described_and_real(method: str, *, lora: bool = False, **others):
    """A model as planned, and the same model made."""
    rates = RATES | ({"lm": 1e-3} if lora else {})
    with torch.device("meta"):
        lm = described(decoder("tiny", torch.float32))
    planned = model_of(values(method, lora_rank=RANK if lora else 0, **others), lm, d=D, rates=rates)
    real = build(Case(method, "tiny", "step", 91, K, 1, latents=5, d=D))
    if lora:
        real.add_lora(rank=RANK, alpha=6, dropout=0.0)
    groups = parameter_groups(real, rates)
    return planned, real, rates, groups


def turn(real, prompt: int, *answers: int):
    return real.chat.turn(" ".join("a" * prompt), [" ".join("a" * n) for n in answers])


def item(turns, n: int) -> Item:
    answered = sum(len(a) for t in turns for a in t.answers)
    return Item(n, sum(len(t.prompt) for t in turns) + answered, answered, sum(len(t.answers) for t in turns))


def counted(call) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_operations_of_a_training_step(method, lora, recompute):
    if method == "text_only" and not lora:
        pytest.skip("nothing learns")
    planned, real, rates, _ = described_and_real(method, lora=lora)
    n, turns = 256, [turn(real, 11, 5)]

    def step() -> None:
        with recomputing(real.lm, recompute):
            set_modes(real, rates)
            log_probs, aux = real(collate([slide(n, D)]), pack([turns]), torch.Generator().manual_seed(0))
            (aux - log_probs.sum()).backward()

    expected = step_operations(planned, item(turns, n), head=len(real.chat.head), cap=4096, recompute=recompute)
    assert 0.96 < counted(step) / expected < 1.04


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_operations_of_reading(method, soft):
    planned, real, _, _ = described_and_real(method, lora=True)
    n, turns = 91, [turn(real, 11, 5, 2)]
    real.requires_grad_(False).eval().compressor.train(soft and planned.scores)
    with torch.no_grad():
        found = counted(lambda: real(collate([slide(n, D)]), pack([turns]), torch.Generator().manual_seed(0)))
    work = Work(1, 1, (item(turns, n),))
    one = {"head": len(real.chat.head), "cap": 4096, "passes": [soft and planned.scores]}
    assert 0.96 < found / read_operations(planned, work, 1, **one) < 1.04


@pytest.mark.parametrize("method", METHODS)
def test_tokens_through_the_language_model(method):
    """A hook on the decoder counts them: in a step; and in a validation of every question, hard and soft."""
    planned, real, rates, _ = described_and_real(method)
    sizes, seen = {"s0": 91, "s1": 33, "s2": 5}, []
    real.lm.get_decoder().layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).shape[1]), with_kwargs=True
    )
    bags = {name: make_bag(name, np.random.default_rng(0).normal(size=(n, D)), None, {}) for name, n in sizes.items()}
    options = ("a a a", "a")
    asked = [Question(f"{slide}{i}", slide, "", "", "a a", options, 0) for slide in sizes for i in range(2)]
    turns = [real.chat.turn(answering.prompt(asked[0]), list(options))]
    items = tuple(item(turns, sizes[q.slide_id]) for q in asked)
    head = len(real.chat.head)
    set_modes(real, rates)
    if method != "text_only":
        real(collate([bags["s1"]]), pack([turns]), torch.Generator().manual_seed(0))
        assert sum(seen) == trained_tokens(planned, items[2], head=head, cap=4096)
    seen.clear()
    for soft in passes(planned):
        alone = {"batch_tokens": 1} if "batch_tokens" in signature(answering.answer).parameters else {"batch_slides": 1}
        answering.answer(real, asked, bags, answer_form="text", seed=0 if soft else None, **alone)
    work = Work(len(asked), len(bags), items)
    assert sum(seen) == read_tokens(planned, work, 6, head=head, cap=4096, passes=passes(planned))


WORDS = 6  # of an open answer


def asked_in_words(real):
    """A question about each of two slides that the model never ends by itself, and the work that a plan makes of it."""
    sizes, text = {"s0": 91, "s1": 33}, " ".join("a" * 11)
    real.chat.stops = set()
    prompted = [Prompted(slide, slide, text) for slide in sizes]
    bags = {name: slide(n, D)._replace(slide_id=name) for name, n in sizes.items()}
    prompt = len(real.chat.turn(text, []).prompt)
    return prompted, bags, Work(2, 2, tuple(Item(n, prompt + WORDS, WORDS) for n in sizes.values())), prompt


@pytest.mark.parametrize("method", METHODS)
def test_operations_and_tokens_of_open_answers(method):
    planned, real, _, _ = described_and_real(method, lora=True)
    real.requires_grad_(False).eval()
    prompted, bags, work, _ = asked_in_words(real)
    seen = []
    real.lm.get_decoder().layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).shape[1]), with_kwargs=True
    )
    found = counted(lambda: said(real, prompted, bags, most_tokens=WORDS, batch_tokens=1))
    one = {"head": len(real.chat.head), "cap": 4096}
    assert sum(seen) == decoded_tokens(planned, work, **one) and seen.count(1) == 2 * (WORDS - 1)
    assert 0.96 < found / decoded_operations(planned, work, **one) < 1.04


def test_open_answers_by_hand():
    """Random: K tokens a slide, and no other part than the projector and the language model that costs anything."""
    planned, real, _, _ = described_and_real("random")
    _, _, work, prompt = asked_in_words(real)
    lm, head = planned.lm.decoder, 3
    before = K + head + prompt
    p = 2 * lm.weights
    forward = p * before + 4 * lm.layers * lm.inner * before**2
    forward += sum(p + 4 * lm.layers * lm.inner * (before + i) for i in range(1, WORDS))
    logits = WORDS * 2 * lm.width * lm.vocabulary
    width = planned.sizes.projector_width
    projected = K * 2 * (D * width + width * lm.width)
    assert decoded_operations(planned, work, head=head, cap=4096) == 2 * (forward + logits + projected)
    assert decoded_tokens(planned, work, head=head, cap=4096) == 2 * (before + WORDS - 1)
    asked = {"max_tiles": 40, "batch_tokens": 2 * (40 + head + prompt + WORDS), "device": "cpu"}
    load = decoding_load(work._replace(n=9), asked, head)
    assert load == Load(2, 40, head + prompt + WORDS, 1, 1)
    tokens = 2 * (K + head + prompt + WORDS)
    kept = 4 * planned.lm.parameters + 4 * sum(planned.parameters.values())
    keys, mask, scores = 2 * lm.layers * lm.keys * 4 * tokens, 5 * tokens**2 // 2, 2 * lm.vocabulary * 8
    once = max((3 * lm.ffn + 8 * lm.width) * 4 * tokens, 2 * 40 * D * 4 * 12)
    assert decoding_bytes(planned, load, asked) == kept + keys + once + mask + scores


@pytest.mark.parametrize("method", ["slidechat", "sparselearn", "tcssa", "locpath"])
def test_parameters_and_the_bytes_of_a_checkpoint(method, tmp_path: Path):
    planned, real, _, groups = described_and_real(method, lora=True)
    assert planned.learns == {part: n for part, n in real.trainable().items() if n}
    optimizer = torch.optim.AdamW(groups)
    for parameter in (p for group in groups for p in group["params"]):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = RunState(tmp_path / "checkpoint.pt")
    for step in range(3):
        state.best, state.best_step = trainable_state(real), step
        state.save(real, optimizer, get_constant_schedule(optimizer))
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 1 <= written / (ON_DISK_BYTES * planned.learnt) < 1.1


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_block_keeps_for_its_backward_pass(dtype, lora):
    """Saved tensors of two more blocks, those of weights left out."""
    t, kept = 128, []
    for layers in (2, 4):
        planned, lm = _decoder_of(layers, dtype, lora)
        x, own = torch.randn(1, t, 128, dtype=dtype, requires_grad=True), {}
        theirs = {p.untyped_storage().data_ptr() for p in lm.parameters()}

        def keep(value, own=own, theirs=theirs):
            storage = value.untyped_storage()
            own |= {} if storage.data_ptr() in theirs else {storage.data_ptr(): (storage.nbytes(), value)}
            return value

        autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), autocast:
            out = lm(inputs_embeds=x, use_cache=False, logits_to_keep=1).logits
        assert out.requires_grad
        kept.append(sum(size for size, _ in own.values()))
    expected = block_bytes(planned, {"dtype": str(dtype).removeprefix("torch."), "device": "cpu"})
    assert 0.9 < (kept[1] - kept[0]) / (2 * t) / expected < 1.1


def _decoder_of(layers: int, dtype: torch.dtype, lora: bool):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = decoder("tiny", torch.float32).config
    config.num_hidden_layers, config.layer_types = layers, config.layer_types[:1] * layers
    lm = AutoModelForCausalLM.from_config(config, dtype=dtype).requires_grad_(False)
    planned = model_of(
        values("all", lora_rank=16 if lora else 0),
        described(lm),
        d=D,
        rates={"lm": 1.0} if lora else {"projector": 1.0},
    )
    if lora:
        lm = get_peft_model(lm, LoraConfig(r=16, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"))
    return planned, lm.train()


def test_a_decoder_that_is_no_qwen_is_counted_by_its_matrices():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=99, hidden_size=40, intermediate_size=56, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, sliding_window=4096,
    )  # fmt: skip
    lm = Gemma3ForCausalLM(config)
    sizes, ids = described(lm).decoder, torch.zeros(1, 37, dtype=torch.long)
    assert (sizes.inner, sizes.keys, sizes.weights) == (64, 32, 3 * (2 * 40 * 64 + 2 * 40 * 32 + 3 * 40 * 56))
    with torch.no_grad():
        found = counted(lambda: lm(input_ids=ids, use_cache=False, logits_to_keep=1))
    assert found == flops.decoder(sizes, 37).total + flops.lm_head(sizes).total


def test_masked_pre_training():
    n, latents = 96, 5
    made = LoCPath(D, latents, latents=latents, latent_width=D, resampler_blocks=3, resampler_heads=4)
    model = MaskedAutoencoder(made, D, mask_ratio=0.75, decoder_blocks=2, heads=4, seed=0)
    windows = len(np.unique(slide(n, D).coords // (2 * 224), axis=0))
    sizes = Sizes(n, 0, 0, d=D, windows=windows, latents=latents, latent_width=D, resampler_blocks=3)
    expected = flops.masked_autoencoder(sizes, blocks=2, mask_ratio=0.75).total
    batch = collate([slide(n, D)])
    found = counted(lambda: loss(model(batch, torch.Generator().manual_seed(0))).backward())
    assert 0.9 < found / (3 * expected) < 1.02
    model.requires_grad_(False)
    assert counted(lambda: model(batch, torch.Generator().manual_seed(0))) == expected
    given = {"latents": latents, "latent_width": D, "resampler_blocks": 3, "resampler_heads": 4, "decoder_blocks": 2}
    assert parameters(given, D) == sum(p.numel() for p in model.parameters())
