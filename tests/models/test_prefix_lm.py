"""Three ways through the language model that must agree: plain causal chains, a shared prefix, one dense mask."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from slidesieve.models.chat import Texts, Turn, pack
from slidesieve.models.prefix_lm import (
    Prefix,
    answer_log_probs,
    chain_logits,
    is_chain,
    packed_logits,
    real_tokens_first,
    shared_logits,
    text_logits,
    with_head,
)
from slidesieve.models.vlm import without_peft_warnings

WIDTH, WORDS, HEAD = 24, 61, [3, 5]
SIZES = {
    "vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 40, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 3, "initializer_range": 0.3,
}  # fmt: skip
ONE_EACH = [[Turn([9, 8, 7], [[11, 12]])], [Turn([4, 9], [[30, 31, 32, 33, 2]])], [Turn([40], [[2]])]]
SEVERAL = [
    [Turn([9, 8, 7], [[11, 12], [13], [14, 15, 2]]), Turn([20, 21], [[22, 2]])],
    [Turn([4], [[30, 2]])],
    [Turn([40, 41, 42, 43], [[2], [50, 2]]), Turn([44, 45], []), Turn([46], [[47]])],
]


def tiny(family: str, *, lora: bool = False):
    """A random language model with grouped key-value heads and attention that is far from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kinds = {"qwen2": (Qwen2ForCausalLM, Qwen2Config), "llama": (LlamaForCausalLM, LlamaConfig)}
        lm = kinds[family][0](kinds[family][1](**SIZES)).eval()
        if lora:
            config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
            with without_peft_warnings():
                lm = get_peft_model(lm, config).eval()
    return lm


def gapped_prefix(lengths: tuple[int, ...] = (17, 5, 11), *, seed: int = 0) -> Prefix:
    """Visual tokens whose positions have gaps, and padding in front, between and behind."""
    g = torch.Generator().manual_seed(seed)
    b, m = len(lengths), max(lengths) + 4
    mask = torch.zeros(b, m, dtype=torch.bool)
    positions = torch.zeros(b, m, dtype=torch.long)
    for i, n in enumerate(lengths):
        places = torch.randperm(m, generator=g)[:n].sort().values
        mask[i, places] = True
        positions[i, places] = torch.randperm(3 * m, generator=g)[:n].sort().values
    return Prefix(torch.randn(b, m, WIDTH, generator=g), mask, positions, torch.full((b,), 3 * m))


def by_all_ways(lm, prefix: Prefix, texts: Texts) -> dict[str, torch.Tensor]:
    front = real_tokens_first(with_head(lm, HEAD, prefix))
    columns = torch.arange(texts.ids.shape[1])
    ways = {"shared": shared_logits, "packed": packed_logits} | ({"chain": chain_logits} if is_chain(texts) else {})
    return {name: way(lm, front, texts, columns) for name, way in ways.items()}


def one_by_one(lm, prefix: Prefix, turn: Turn, answer: list[int], row: int) -> torch.Tensor:
    """Logits at the prompt and answer from one unpadded sequence under the model's own causal mask."""
    real, span = prefix.mask[row], int(prefix.span[row])
    embed, text = lm.get_input_embeddings(), [*turn.prompt, *answer]
    embeds = torch.cat([embed(torch.tensor(HEAD)), prefix.embeds[row, real], embed(torch.tensor(text))])
    h = len(HEAD)
    ids = [*range(h), *(h + prefix.positions[row, real]).tolist(), *(h + span + i for i in range(len(text)))]
    given = {"inputs_embeds": embeds[None], "position_ids": torch.tensor([ids])}
    return lm(**given, attention_mask=torch.ones(1, len(ids))).logits[0, -len(text) :]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("rows", [ONE_EACH, SEVERAL])
def test_all_ways_give_the_logits_of_one_plain_sequence_each(family, lora, rows):
    lm, prefix, texts = tiny(family, lora=lora), gapped_prefix(), pack(rows)
    assert is_chain(texts) == (rows is ONE_EACH)
    with torch.no_grad():
        ways = by_all_ways(lm, prefix, texts)
        for row, turns in enumerate(rows):
            at = 0
            for turn in turns:
                columns = list(range(at, at + len(turn.prompt)))
                at += len(turn.prompt)
                for answer in turn.answers or [[]]:
                    own = [*columns, *range(at, at + len(answer))]
                    at += len(answer)
                    expected = one_by_one(lm, prefix, turn, answer, row)
                    for name, logits in ways.items():
                        assert (logits[row, own] - expected).abs().max() < 1e-5, name


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_a_chain_has_the_gradient_of_the_dense_mask(family):
    lm, texts = tiny(family, lora=True), pack(ONE_EACH)
    gradients = []
    for way in (chain_logits, packed_logits):
        prefix = gapped_prefix()
        prefix.embeds.requires_grad_()
        lm.zero_grad()
        front = real_tokens_first(with_head(lm, HEAD, prefix))
        logits = way(lm, front, texts, torch.arange(texts.ids.shape[1]))
        (logits.log_softmax(-1)[..., 7] * (texts.answer >= 0)).sum().backward()
        gradients.append([prefix.embeds.grad, *(p.grad for p in lm.parameters() if p.requires_grad)])
    for ours, dense in zip(*gradients, strict=True):
        assert (ours - dense).abs().max() <= 1e-5 * dense.abs().max().clamp(min=1)
    assert gradients[0][0].abs().sum() > 0


def test_log_probs_of_answers_only_and_in_any_way():
    lm, prefix = tiny("llama"), gapped_prefix()
    for rows in (ONE_EACH, SEVERAL):
        texts = pack(rows)
        dense = by_all_ways(lm, prefix, texts)["packed"].log_softmax(-1)
        expected = torch.zeros(texts.ids.shape)
        for i, j in (texts.answer >= 0).nonzero().tolist():
            expected[i, j] = dense[i, texts.predictor[i, j], texts.ids[i, j]]
        assert (answer_log_probs(lm, HEAD, prefix, texts) - expected).abs().max() < 1e-5
        with torch.no_grad():
            assert (answer_log_probs(lm, HEAD, prefix, texts) - expected).abs().max() < 1e-5


def spied_attention(monkeypatch) -> list[tuple]:
    """What each call of attention was given: shape of the queries, of the keys, of the mask, and whether causal."""
    calls, original = [], torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, attn_mask=None, is_causal=False, **rest):
        calls.append((q.shape[2], k.shape[2], None if attn_mask is None else tuple(attn_mask.shape), is_causal))
        return original(q, k, v, attn_mask=attn_mask, is_causal=is_causal, **rest)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    return calls


def test_a_chain_is_causal_attention_without_any_mask(monkeypatch):
    lm, prefix, texts = tiny("qwen2"), gapped_prefix(), pack(ONE_EACH)
    calls = spied_attention(monkeypatch)
    text_logits(lm, HEAD, prefix, texts)
    long = len(HEAD) + prefix.mask.shape[1] + texts.ids.shape[1]
    assert set(calls) == {(long, long, None, True)}


def test_without_a_gradient_the_prefix_is_run_once_and_texts_in_a_rectangle(monkeypatch):
    lm, prefix, texts = tiny("qwen2"), gapped_prefix(), pack(SEVERAL)
    calls = spied_attention(monkeypatch)
    with torch.no_grad():
        text_logits(lm, HEAD, prefix, texts)
    m, t = len(HEAD) + prefix.mask.shape[1], texts.ids.shape[1]
    assert calls == [(m, m, None, True)] * 3 + [(t, m + t, (3, 1, t, m + t), False)] * 3


def test_gaps_would_cut_the_attention_if_no_mask_were_given():
    """Why an explicit mask of ones is passed: without one, positions with jumps are read as packed sequences."""
    lm, prefix = tiny("qwen2"), gapped_prefix((17,))
    front = real_tokens_first(with_head(lm, HEAD, prefix))
    real = front.mask[0]
    given = {"inputs_embeds": front.embeds[:, real], "position_ids": front.positions[:, real]}
    with torch.no_grad():
        cut = lm(**given, use_cache=False).logits
        whole = lm(**given, attention_mask=torch.ones(1, int(real.sum())), use_cache=False).logits
    assert (cut - whole).abs().max() > 0.1


def test_logits_are_computed_only_where_an_answer_is_predicted():
    lm, texts, seen = tiny("llama"), pack(SEVERAL), []
    lm.lm_head.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    answer_log_probs(lm, HEAD, gapped_prefix(), texts)
    assert seen == [len(texts.predictor[texts.answer >= 0].unique())] and seen[0] < texts.ids.shape[1]


def test_a_half_precision_model_gives_log_probs_in_single(tmp_path):
    lm, texts = tiny("qwen2"), pack(SEVERAL)
    lm.to(torch.bfloat16).save_pretrained(tmp_path)
    prefix = gapped_prefix()
    half = prefix._replace(embeds=prefix.embeds.bfloat16())
    got = answer_log_probs(lm, HEAD, half, texts)
    assert got.dtype == torch.float32 and lm.dtype == torch.bfloat16
    expected = answer_log_probs(tiny("qwen2"), HEAD, prefix, texts)
    assert (got - expected)[texts.answer >= 0].abs().mean() < 0.3


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() == 0, reason="no CUDA device")
def test_on_a_gpu_chains_take_the_flash_kernel_in_half_precision():
    """Nothing but the flash kernel is allowed, forward and backward; the same numbers as on the CPU, rounded."""
    texts, prefix = pack(ONE_EACH), gapped_prefix()
    expected = answer_log_probs(tiny("qwen2"), HEAD, prefix, texts).detach()
    lm = tiny("qwen2", lora=True).to("cuda", torch.bfloat16)
    for name, parameter in lm.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    half = Prefix(prefix.embeds.bfloat16(), *prefix[1:])
    half = Prefix(*(part.to("cuda") for part in half[:4]))
    half.embeds.requires_grad_()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        got = answer_log_probs(lm, HEAD, half, texts.to("cuda"))
        got.sum().backward()
    assert torch.isfinite(half.embeds.grad).all() and half.embeds.grad.abs().sum() > 0
    assert (got.cpu() - expected)[texts.answer >= 0].abs().mean() < 0.5
