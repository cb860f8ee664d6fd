"""Which latents a question picks, what the decoder's layers read, and that a closed gate leaves the model as it was."""

import math

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from slidesieve.answers.decoding import greedy
from slidesieve.models.chat import Turn, pack
from slidesieve.models.cross_attention import Adapter, LatentReader, evenly_spaced, log_gate_of_top, mean_of_questions
from slidesieve.models.prefix_lm import Prefix, answer_log_probs
from slidesieve.training.step import recomputing

H, W, M, K, HEAD = 24, 16, 9, 4, [11, 12]
SHAPE = {
    "vocab_size": 50,
    "hidden_size": H,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
FAMILIES = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
ROWS = [[Turn([1, 2, 3], [[4, 5], [6]]), Turn([7, 8], [[9]])], [Turn([1, 2, 3, 9], [[4, 5]])]]


def decoder(family: str = "qwen2"):
    torch.manual_seed(0)
    config, model = FAMILIES[family]
    return model(config(**SHAPE)).double().eval()


def reader_of(lm, *, gate: float = 0.5, **options) -> LatentReader:
    torch.manual_seed(1)
    small = {"n_adapters": 2, "adapter_width": 12, "adapter_heads": 3, "adapter_gate": gate}
    reader = LatentReader(lm, W, K, **(small | options)).double()
    reader.attach(lm)
    return reader


def latents(slides: int = 2) -> torch.Tensor:
    return torch.randn(slides, M, W, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def log_probs(lm, texts, reader=None) -> torch.Tensor:
    none = torch.zeros(len(texts.ids), 0, dtype=torch.long)
    empty = torch.zeros(len(texts.ids), 0, H, dtype=torch.float64)
    return answer_log_probs(lm, HEAD, Prefix(empty, none.bool(), none, none.sum(-1), reader and reader.place), texts)


def test_blocks_that_are_recomputed_read_latents_as_others_do():
    """What enters a layer is taken up again when the backward pass runs the layer a second time."""

    def gradients(recompute: bool) -> list[torch.Tensor]:
        lm = decoder().requires_grad_(False)
        reader = reader_of(lm)
        with recomputing(lm, recompute):
            lm.train(recompute)  # blocks look at their own flag; there is no dropout in them
            seen = latents().requires_grad_()
            texts = pack([row[:1] for row in ROWS])
            reader.read(lm, seen, texts)
            log_probs(lm, texts, reader).sum().backward()
        return [seen.grad, *(p.grad for p in reader.parameters() if p.grad is not None)]

    kept, again = gradients(False), gradients(True)
    assert len(kept) == len(again) > 10
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_cara_gate_zero_is_identity(family):  # I41
    texts = pack(ROWS)
    for grad in (True, False):  # packed, and shared through a cache
        with torch.set_grad_enabled(grad):
            plain = log_probs(decoder(family), texts)
            lm = decoder(family)
            closed = reader_of(lm, gate=0.0)
            closed.read(lm, latents(), texts)
            assert torch.equal(log_probs(lm, texts, closed), plain)
            lm = decoder(family)
            opened = reader_of(lm, gate=0.5)
            opened.read(lm, latents(), texts)
            assert (log_probs(lm, texts, opened) - plain).abs().max() > 1e-3


def test_without_a_slide_the_language_model_is_as_it_was():
    texts = pack(ROWS)
    lm = decoder()
    plain = log_probs(lm, texts)
    reader_of(lm)
    assert torch.equal(log_probs(lm, texts), plain)


def test_each_question_keeps_its_own_k_latents():  # I42
    lm, texts = decoder(), pack(ROWS)
    reader = reader_of(lm)
    with torch.no_grad():
        scores, log_gate = reader.read(lm, latents(), texts)
    assert scores.shape == log_gate.shape == (2, 2, M)
    assert (log_gate.isfinite().sum(-1) == K).all()
    for slide, turn in ((0, 0), (0, 1), (1, 0)):
        best = set(scores[slide, turn].argsort(descending=True)[:K].tolist())
        for i in range(M):
            expected = math.log(1 / (1 + math.exp(-scores[slide, turn, i]))) if i in best else -math.inf
            assert log_gate[slide, turn, i].item() == pytest.approx(expected, rel=1e-9)
    assert (scores[0, 0] - scores[0, 1]).abs().max() > 1e-3  # another question, other scores
    assert log_gate_of_top(scores, M + 5).isfinite().all()


def test_scores_are_those_of_the_formula():
    lm, texts = decoder(), pack(ROWS)
    reader = reader_of(lm)
    scores, _ = reader.read(lm, latents(), texts)
    part, embed = reader.importance, lm.get_input_embeddings().weight
    for slide, turn, prompt in ((0, 0, [1, 2, 3]), (0, 1, [7, 8]), (1, 0, [1, 2, 3, 9])):
        question = sum(embed[i] for i in prompt) / len(prompt)
        for i in range(M):
            z = part.norm(latents()[slide, i])
            match = (part.latent.weight @ z) @ (part.asked.weight @ part.question(question)) / math.sqrt(W)
            assert abs(scores[slide, turn, i] - match - part.own.weight[0] @ z) < 1e-10


def test_a_question_is_the_mean_of_its_prompt_alone():
    texts = pack(ROWS)
    embeds = torch.randn(*texts.ids.shape, H)
    means = mean_of_questions(embeds, texts)
    assert torch.allclose(means[0, 0], embeds[0, :3].mean(0))  # 1 2 3 | 4 5 | 6 | 7 8 | 9
    assert torch.allclose(means[0, 1], embeds[0, 6:8].mean(0))
    assert torch.allclose(means[1, 0], embeds[1, :4].mean(0))


def test_an_adapter_is_gated_routed_attention_over_the_kept():
    torch.manual_seed(2)
    adapter = Adapter(H, W, 12, 3, gate=0.7, router_bias=0.3).double()
    h, z = torch.randn(2, 5, H, dtype=torch.float64), latents()
    bias = torch.randn(2, 5, M, dtype=torch.float64).masked_fill(torch.rand(2, 5, M) < 0.4, -math.inf)
    bias[..., 0] = 0.1
    reads = torch.tensor([[True, True, False, True, True], [False, True, True, True, True]])
    out = adapter(h, *adapter.keys(z), bias, reads)
    for b in range(2):
        keys, values = adapter.key_value(adapter.norm_latents(z[b])).chunk(2, -1)
        for i in range(5):
            normed = adapter.norm(h[b, i])
            parts = []
            for a in range(3):
                own = slice(4 * a, 4 * a + 4)
                logits = keys[:, own] @ adapter.query(normed)[own] / 2 + bias[b, i]
                parts.append(logits.softmax(0) @ values[:, own])
            routed = torch.sigmoid(adapter.router(normed)) * reads[b, i]
            expected = adapter.gate.tanh() * routed * adapter.out(torch.cat(parts))
            assert (out[b, i] - expected).abs().max() < 1e-10


def test_every_way_through_the_language_model_reads_alike():
    """Packed with gradients, shared through a cache, and each question alone as one chain."""
    lm, texts = decoder(), pack(ROWS)
    reader = reader_of(lm)
    reader.read(lm, latents(), texts)
    packed = log_probs(lm, texts, reader)
    with torch.no_grad():
        assert (log_probs(lm, texts, reader) - packed).abs().max() < 1e-10
        for slide, turns in enumerate(ROWS):
            for turn in turns:
                for answer in turn.answers:
                    alone = pack([[Turn(turn.prompt, [answer])]])
                    reader.read(lm, latents()[slide : slide + 1], alone)
                    got = log_probs(lm, alone, reader).sum()
                    asked = texts.answer[slide] == _number_of(slide, turn, answer)
                    assert abs(got - packed[slide][asked].sum()) < 1e-10


def _number_of(slide: int, turn: Turn, answer: list[int]) -> int:
    listed = [(s, t.prompt, a) for s, turns in enumerate(ROWS) for t in turns for a in t.answers]
    return listed.index((slide, turn.prompt, answer))


def test_decoding_with_cached_latents_says_what_scoring_says():
    lm = decoder()
    reader = reader_of(lm)
    prompt = [1, 2, 3, 9]
    asked = pack([[Turn(prompt, [])]])
    reader.read(lm, latents(1), asked)
    none = torch.zeros(1, 0, dtype=torch.long)
    prefix = Prefix(torch.zeros(1, 0, H, dtype=torch.float64), none.bool(), none, none.sum(-1), reader.place)
    (said,) = greedy(lm, HEAD, prefix, [prompt], stops=set(), most=5)
    for i in range(5):  # each token is the likeliest of all after what was said before
        options = pack([[Turn(prompt, [[*said[:i], token] for token in range(50)])]])
        with torch.no_grad():
            reader.read(lm, latents(1), options)
            scores = log_probs(lm, options, reader)[0]
        last = torch.stack([scores[options.answer[0] == number].sum() for number in range(50)])
        assert int(last.argmax()) == said[i]


def test_gradients_reach_latents_importance_and_adapters_but_not_the_language_model():  # I42
    lm, texts = decoder(), pack(ROWS)
    lm.requires_grad_(False)
    reader, z = reader_of(lm), latents().requires_grad_()
    reader.read(lm, z, texts)
    log_probs(lm, texts, reader).sum().backward()
    assert z.grad.abs().sum() > 0
    for name, parameter in reader.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert reader.importance.asked.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in lm.parameters())


def test_recomputed_blocks_pass_the_same_gradients():
    texts, gradients = pack(ROWS), []
    for again in (False, True):
        lm, z = decoder(), latents().requires_grad_()
        reader = reader_of(lm)
        with recomputing(lm, again):
            reader.read(lm.train(), z, texts)
            log_probs(lm, texts, reader).sum().backward()
        gradients.append(z.grad)
    assert torch.equal(*gradients) and gradients[0].abs().max() > 0


def test_with_importance_off_every_latent_is_read_alike():
    lm, texts = decoder(), pack(ROWS)
    reader = reader_of(lm, importance="none")
    _, log_gate = reader.read(lm, latents(), texts)
    assert torch.equal(log_gate, torch.zeros(2, 2, M, dtype=torch.float64))


def test_adapters_are_evenly_spaced_or_named():
    assert evenly_spaced(4, 28) == (3, 10, 17, 24)
    assert evenly_spaced(3, 3) == (0, 1, 2)
    assert evenly_spaced(9, 2) == (0, 1)
    assert reader_of(decoder(), adapter_layers=[2]).layers == (2,)
    with pytest.raises(ValueError, match=r"got layers \(3,\); this decoder has 0 to 2"):
        reader_of(decoder(), adapter_layers=[3])


def test_decoders_of_another_build_are_refused():
    granite = GraniteForCausalLM(GraniteConfig(**SHAPE, residual_multiplier=0.5))
    with pytest.raises(ValueError, match="GraniteForCausalLM a layer does not go on with its input plus its attention"):
        reader_of(granite)
    small = {"vocab_size": 50, "n_embd": H, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 1}
    with pytest.raises(ValueError, match="GPT2LMHeadModel has no layers with a self_attn"):
        reader_of(GPT2LMHeadModel(GPT2Config(**small)))


@pytest.mark.parametrize("options", [{"importance": "some"}, {"adapter_heads": 5}])
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=r"importance of latents: got|is not a multiple of 5 heads"):
        reader_of(decoder(), **options)
