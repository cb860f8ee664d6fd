"""A language model serves, or a line says why not, before any weights are read; what serves is right to rounding."""

import json
import os
from pathlib import Path

import pytest
import torch
from doubles import compute_in_float64
from transformers import AutoConfig, AutoTokenizer

from benchmarks.decoder_families import FAMILIES as CASES
from benchmarks.decoder_families import POSITIONS, WINDOW, make_family
from benchmarks.decoders import TOLERANCE, differences, judge, latent_difference
from slidesieve.models.attention_masks import windows_of
from slidesieve.models.decoder_families import FAMILIES, READING, position_limit
from slidesieve.models.language_model import dtype_of, examine, hub_answers, load_lm

QUICK = ("llama", "mistral", "gemma3_text", "gpt_neo", "bloom", "gpt2", "cohere2")
REFUSED = {
    "mamba": "layers with linear_attention",
    "rwkv": "layers with a recurrent state",
    "t5": "an encoder-decoder",
    "bert": "not among the",
    "llama4_text": "layers with chunked_attention",
}


def edited(folder: Path, **changes) -> str:
    """The folder, its config changed."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(folder)


@pytest.mark.parametrize("name", QUICK)
def test_a_family_is_right_in_every_way(name, tmp_path):
    row = judge(name, tmp_path)
    assert (row.verdict, row.largest_difference < TOLERANCE) == ("right", True), row
    reads = CASES[name].model_type in READING
    assert row.ways == "chain+shared+packed+greedy" + ("+latents" if reads else "")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_no_family_is_wrong(name, tmp_path):
    assert judge(name, tmp_path).verdict == ("right" if CASES[name].model_type in FAMILIES else "refused")


def test_every_family_that_is_let_in_is_measured():
    assert FAMILIES - {case.model_type for case in CASES.values()} == set()
    assert READING <= FAMILIES


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_serve_is_refused_in_one_line(name, tmp_path):
    row = judge(name, tmp_path)
    assert row.verdict == "refused" and REFUSED[name] in row.why and "\n" not in row.why


@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "qwen2 with a window"])
def test_a_window_that_is_left_out_is_seen(name, tmp_path, monkeypatch):
    make_family(name, tmp_path)
    lm, tokenizer = load_lm(str(tmp_path))
    plain, _ = load_lm(str(tmp_path))
    from slidesieve.models.chat import ChatFormat

    monkeypatch.setattr("slidesieve.models.attention_masks.windows_of", lambda config: {"": None})
    found = differences(lm.eval(), plain.eval(), ChatFormat(tokenizer))
    assert found["chain"] < TOLERANCE and found["greedy"] < TOLERANCE
    assert found["shared"] > 0.01 and found["packed"] > 0.01


def test_facts_of_a_gemma(tmp_path):
    facts = examine(str(make_family("gemma3_text", tmp_path)))
    assert facts.family == "gemma3_text" and facts.attention == "sdpa"
    assert facts.windows == {"full_attention": None, "sliding_attention": WINDOW}
    assert facts.windowed_layers == (0, 2) and facts.layers == 4 and facts.width == 32
    assert (facts.limit, facts.hard, facts.template, facts.reads_latents) == (POSITIONS, False, False, True)
    assert facts.lead == [AutoTokenizer.from_pretrained(tmp_path).bos_token_id]
    lm, tokenizer = load_lm(str(tmp_path))
    assert facts.parameters == sum(p.numel() for p in lm.parameters())
    assert (facts.rows, facts.tokens, facts.end) == (len(tokenizer), len(tokenizer), tokenizer.eos_token_id)


def test_eager_where_there_is_no_sdpa(tmp_path):
    assert examine(str(make_family("gemma2", tmp_path))).attention == "eager"
    lm, _ = load_lm(str(tmp_path))
    assert lm.config._attn_implementation == "eager"


def test_more_tokens_than_rows_names_both_numbers(tmp_path):
    make_family("llama", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rows = len(tokenizer)
    tokenizer.add_tokens(["<image_soft_token>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path)
    assert examine(str(tmp_path)).tokens == rows + 1  # Gemma 3's: never asked for
    tokenizer.add_tokens(["carcinoma"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"has {rows + 2} tokens, the embedding {rows} rows"):
        examine(str(tmp_path))


@pytest.mark.parametrize("name, whose", [("gpt2", "has no more than"), ("llama", "was trained on no more than")])
def test_positions_beyond_the_limit_name_both_numbers(name, whose, tmp_path):
    make_family(name, tmp_path)
    assert examine(str(tmp_path), longest=POSITIONS).limit == POSITIONS
    with pytest.raises(
        ValueError, match=rf"38,400 positions are needed, {name} {whose} {POSITIONS}; give position_ids="
    ):
        examine(str(tmp_path), longest=38_400)


def test_limits_of_rope_that_is_stretched_and_of_alibi():
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768, "rope_theta": 1e6}
    sized = {"max_position_embeddings": 32_768}
    assert position_limit(AutoConfig.for_model("qwen2", **sized)) == 32_768
    assert position_limit(AutoConfig.for_model("qwen2", **sized, rope_parameters=yarn)) == 131_072
    assert position_limit(AutoConfig.for_model("bloom")) is None
    assert position_limit(AutoConfig.for_model("mpt", max_seq_len=77)) == 77


def test_a_model_without_an_end_token_or_adapters_or_a_folder(tmp_path):
    make_family("phi", tmp_path)
    with pytest.raises(ValueError, match="latents cannot be read by phi"):
        examine(str(tmp_path), latents=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match="no end-of-turn token"):
        examine(str(tmp_path))
    with pytest.raises(ValueError, match="no language model that transformers can open") as caught:
        examine(str(tmp_path / "absent"))
    assert "\n" not in str(caught.value)


def test_weights_are_single_on_a_cpu_and_never_half(tmp_path):
    make_family("llama", tmp_path)
    half = edited(tmp_path, dtype="float16")
    assert load_lm(half)[0].dtype == torch.float32
    assert load_lm(half, dtype="bfloat16")[0].dtype == torch.bfloat16
    for stored, on_a_gpu in (("float16", torch.bfloat16), ("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        config = AutoConfig.from_pretrained(edited(tmp_path, dtype=stored))
        assert dtype_of("auto", "cuda:0", config) == on_a_gpu
        assert dtype_of("auto", "cpu", config) == torch.float32
    with pytest.raises(ValueError, match="dtype: got 'float16'; expected auto, float32 or bfloat16"):
        load_lm(half, dtype="float16")


def test_windows_that_are_switched_off_are_none():
    assert windows_of(AutoConfig.for_model("qwen2", sliding_window=8)) == {"": None}
    assert windows_of(AutoConfig.for_model("mistral", sliding_window=None)) == {"": None}
    assert windows_of(AutoConfig.for_model("phi3", sliding_window=9)) == {"": 9}


def test_a_hub_that_is_off_is_not_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub_answers()


def pretrained() -> Path:
    """A real pretrained language model, Gemma 3 270M or another with a window."""
    folder = Path(os.environ.get("SLIDESIEVE_LM") or Path(__file__).parents[2] / "store" / "llm" / "gemma")
    if not (folder / "config.json").exists():
        pytest.skip(f"no {folder}: set SLIDESIEVE_LM to a folder of Gemma 3 270M (shared/lm/build_gemma.py makes one)")
    return folder


@pytest.mark.shared
def test_a_pretrained_gemma_answers_through_our_road_as_it_does_plainly(monkeypatch):
    from benchmarks import decoders
    from slidesieve.models.chat import ChatFormat

    """In float64, as rounding reaches 2e-4 in float32: its activations are in the thousands."""
    compute_in_float64(monkeypatch)
    folder = pretrained()
    lm, tokenizer = load_lm(str(folder))
    lm.double()
    chat, window = ChatFormat(tokenizer), max(w or 0 for w in examine(str(folder)).windows.values())
    assert chat.head == [tokenizer.bos_token_id]
    monkeypatch.setattr(decoders, "LENGTHS", ((7, 5), (window + 13, 9)))
    found = differences(lm.eval(), lm, chat)
    assert set(found) == {"chain", "shared", "packed", "greedy"} and max(found.values()) < 1e-9, found
    assert latent_difference(lm, chat) < 1e-9
