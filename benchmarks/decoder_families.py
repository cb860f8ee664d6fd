"""Tiny random language models of many families, each with a tokenizer of its family's own class."""

from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from benchmarks.tiny_tokenizers import TOKENIZERS

WINDOW, POSITIONS = 8, 512
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": POSITIONS, "initializer_range": 0.3,
}  # fmt: skip
EXPERTS = {"num_local_experts": 3, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
MIXED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2}
DEEPSEEK = {
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "n_shared_experts": 1,
    "moe_intermediate_size": 24, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
}  # fmt: skip
GPT = {name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")} | {
    "initializer_range": 0.3
}
N_GPT = {
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": POSITIONS,
    "n_ctx": POSITIONS,
    "initializer_range": 0.3,
}


class Family(NamedTuple):
    """A config of `model_type`, made of `options`, and the kind of tokenizer that goes with it."""

    model_type: str
    options: dict
    tokenizer: str = "bytes"


FAMILIES = {
    "llama": Family("llama", SIZES, "llama"),
    "llama with byte-level tokens": Family("llama", SIZES, "bytes+bos"),
    "mistral": Family("mistral", SIZES | {"sliding_window": WINDOW}, "llama"),
    "ministral": Family("ministral", SIZES | MIXED | {"head_dim": 8}, "bytes+bos"),
    "ministral3": Family("ministral3", SIZES | {"sliding_window": None}, "bytes+bos"),
    "mixtral": Family("mixtral", SIZES | EXPERTS | {"sliding_window": WINDOW}, "llama"),
    "qwen2": Family("qwen2", SIZES, "qwen"),
    "qwen2 with a window": Family(
        "qwen2", SIZES | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}, "qwen"
    ),
    "qwen2_moe": Family("qwen2_moe", SIZES | EXPERTS | {"shared_expert_intermediate_size": 24}, "qwen"),
    "qwen3": Family("qwen3", SIZES | {"head_dim": 8}, "qwen"),
    "qwen3 with a window": Family(
        "qwen3",
        SIZES | {"head_dim": 8, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
        "qwen",
    ),
    "qwen3_moe": Family("qwen3_moe", SIZES | EXPERTS | {"head_dim": 8}, "qwen"),
    "gemma": Family("gemma", SIZES | {"head_dim": 8}, "gemma"),
    "gemma2": Family("gemma2", SIZES | MIXED | {"head_dim": 8, "query_pre_attn_scalar": 8}, "gemma"),
    "gemma3_text": Family("gemma3_text", SIZES | MIXED | {"head_dim": 8, "query_pre_attn_scalar": 8}, "gemma"),
    "gemma3": Family(
        "gemma3",
        {
            "text_config": SIZES | MIXED | {"head_dim": 8, "query_pre_attn_scalar": 8},
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
        },
        "gemma",
    ),
    "vaultgemma": Family("vaultgemma", SIZES | MIXED | {"head_dim": 8, "query_pre_attn_scalar": 8}, "gemma"),
    "phi": Family("phi", SIZES | {"num_key_value_heads": 4}, "gpt2"),
    "phi3": Family("phi3", SIZES | {"sliding_window": WINDOW, "pad_token_id": 0}, "llama"),
    "phimoe": Family("phimoe", SIZES | EXPERTS | {"sliding_window": WINDOW}, "llama"),
    "gpt2": Family("gpt2", N_GPT, "gpt2"),
    "gpt_bigcode": Family("gpt_bigcode", N_GPT, "bytes"),
    "gpt_neo": Family(
        "gpt_neo",
        GPT
        | {
            "num_layers": 4,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 2]],
            "window_size": WINDOW,
            "max_position_embeddings": POSITIONS,
        },
        "gpt2",
    ),
    "gptj": Family("gptj", N_GPT | {"rotary_dim": 4}, "gpt2"),
    "codegen": Family("codegen", N_GPT | {"rotary_dim": 4}, "gpt2"),
    "gpt_neox": Family("gpt_neox", SIZES, "neox"),
    "opt": Family(
        "opt",
        GPT | {"ffn_dim": 48, "max_position_embeddings": POSITIONS, "word_embed_proj_dim": 32, "init_std": 0.3},
        "opt",
    ),
    "bloom": Family("bloom", GPT | {"n_layer": 4, "n_head": 4}, "bytes"),
    "mpt": Family(
        "mpt", {"d_model": 32, "n_layers": 4, "n_heads": 4, "max_seq_len": POSITIONS, "initializer_range": 0.3}
    ),
    "falcon": Family("falcon", SIZES | {"alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2}, "bytes"),
    "falcon with ALiBi": Family("falcon", SIZES | {"alibi": True, "multi_query": False}, "bytes"),
    "biogpt": Family("biogpt", SIZES, "bytes+bos"),
    "xglm": Family(
        "xglm",
        {
            "d_model": 32,
            "num_layers": 4,
            "attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": POSITIONS,
            "init_std": 0.3,
        },
        "xglm",
    ),
    "stablelm": Family("stablelm", SIZES, "bytes"),
    "olmo": Family("olmo", SIZES, "neox"),
    "olmo2": Family("olmo2", SIZES, "bytes"),
    "olmo3": Family("olmo3", SIZES | MIXED, "bytes"),
    "olmoe": Family("olmoe", SIZES | EXPERTS, "neox"),
    "starcoder2": Family("starcoder2", SIZES | {"sliding_window": WINDOW}, "gpt2"),
    "cohere": Family("cohere", SIZES, "cohere"),
    "cohere2": Family("cohere2", SIZES | MIXED | {"head_dim": 8}, "cohere"),
    "granite": Family("granite", SIZES | {"residual_multiplier": 0.7}, "bytes"),
    "granitemoe": Family("granitemoe", SIZES | EXPERTS | {"residual_multiplier": 0.7}, "bytes"),
    "smollm3": Family(
        "smollm3",
        SIZES | {"use_sliding_window": True, "sliding_window": WINDOW, "no_rope_layers": [1, 0, 1, 0]},
        "bytes",
    ),
    "gpt_oss": Family("gpt_oss", SIZES | MIXED | EXPERTS | {"head_dim": 8}, "bytes"),
    "deepseek_v2": Family("deepseek_v2", SIZES | DEEPSEEK, "bytes+bos"),
    "deepseek_v3": Family("deepseek_v3", SIZES | DEEPSEEK, "bytes+bos"),
    "dots1": Family("dots1", SIZES | MIXED | DEEPSEEK | {"head_dim": 8, "num_key_value_heads": 2}, "bytes"),
    "glm": Family("glm", SIZES | {"head_dim": 8}, "bytes"),
    "glm4": Family("glm4", SIZES | {"head_dim": 8}, "bytes"),
    "glm4_moe": Family("glm4_moe", SIZES | DEEPSEEK | {"head_dim": 8, "num_key_value_heads": 2}, "bytes"),
    "minimax_m2": Family("minimax_m2", SIZES | EXPERTS | {"head_dim": 8, "rotary_dim": 4}, "bytes"),
    "nemotron": Family("nemotron", SIZES, "bytes"),
    "persimmon": Family("persimmon", SIZES, "bytes+bos"),
    "helium": Family("helium", SIZES | {"head_dim": 8}, "bytes+bos"),
    "ernie4_5": Family("ernie4_5", SIZES | {"head_dim": 8}, "llama"),
    "exaone4": Family("exaone4", SIZES | MIXED | {"head_dim": 8}, "bytes"),
    "seed_oss": Family("seed_oss", SIZES | {"head_dim": 8}, "bytes"),
    "arcee": Family("arcee", SIZES, "bytes+bos"),
    "apertus": Family("apertus", SIZES, "bytes+bos"),
    "nanochat": Family("nanochat", SIZES, "bytes+bos"),
    "hunyuan_v1_dense": Family("hunyuan_v1_dense", SIZES | {"head_dim": 8}, "bytes"),
    "mamba": Family("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, "neox"),
    "rwkv": Family("rwkv", {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32}, "neox"),
    "jamba": Family(
        "jamba", SIZES | EXPERTS | {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}, "bytes"
    ),
    "recurrent_gemma": Family("recurrent_gemma", SIZES | {"lru_width": 32, "attention_window_size": WINDOW}, "gemma"),
    "t5": Family("t5", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}, "t5"),
    "bart": Family(
        "bart",
        {
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "is_encoder_decoder": True,
        },
        "bytes",
    ),
    "bert": Family("bert", SIZES | {"is_decoder": True}, "bytes"),
    "llama4_text": Family("llama4_text", SIZES | EXPERTS | {"attention_chunk_size": WINDOW}, "bytes+bos"),
}


def make_family(name: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a random model of a family, its tokenizer beside it, as a `transformers` folder."""
    family = FAMILIES[name]
    tokenizer = TOKENIZERS[family.tokenizer]()
    options, rows = dict(family.options), len(tokenizer)
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    ids["pad_token_id"] = 0 if ids["pad_token_id"] is None else ids["pad_token_id"]
    if "text_config" in options:
        options["text_config"] = options["text_config"] | {"vocab_size": rows} | ids
    own = {"vocab_size": rows} | ids | options if "text_config" not in options else options
    config = AutoConfig.for_model(family.model_type, **own)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = AutoModelForSeq2SeqLM if family.model_type in ("t5", "bart") else AutoModelForCausalLM
        kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
