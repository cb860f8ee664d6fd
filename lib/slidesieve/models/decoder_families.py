"""Families of causal language models, by their `model_type`: what is in their code and not in their config.

Those listed were held against a plain forward pass of the untouched model by `python -m benchmarks.decoders`, which is
also how a family comes to be listed.
"""

import torch
from torch import Tensor, nn

# Positions turn queries and keys: beyond the trained length nothing fails, and nothing is known.
ROTARY = """
apertus arcee cohere cohere2 deepseek_v2 deepseek_v3 dots1 ernie4_5 exaone4 falcon gemma gemma2 gemma3 gemma3_text glm
glm4 glm4_moe gpt_neox gpt_oss granite granitemoe helium hunyuan_v1_dense llama minimax_m2 ministral ministral3 mistral
mixtral nanochat nemotron olmo olmo2 olmo3 olmoe persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_moe seed_oss
smollm3 stablelm starcoder2 vaultgemma
"""
TABLED = "biogpt codegen gpt2 gpt_bigcode gpt_neo gptj opt xglm"  # a row for each position, and no more
ALIBI = "bloom mpt"  # Falcon too, where its config says so
FAMILIES = frozenset(f"{ROTARY} {TABLED} {ALIBI}".split())
# A layer goes on with its input plus its attention, so adapters can add what they read.
READ_BY_ADAPTERS = """
apertus arcee biogpt deepseek_v2 deepseek_v3 dots1 ernie4_5 exaone4 gemma gemma2 gemma3 gemma3_text glm glm4 glm4_moe
gpt_oss helium hunyuan_v1_dense llama minimax_m2 ministral ministral3 mistral mixtral nanochat nemotron olmo olmo2 olmo3
olmoe persimmon phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_moe seed_oss smollm3 stablelm starcoder2 vaultgemma
"""
WITH_A_STATE = """
bamba falcon_h1 falcon_mamba granitemoehybrid jamba kimi_linear lfm2 lfm2_moe mamba mamba2 minimax nemotron_h
olmo_hybrid qwen3_5 qwen3_5_moe qwen3_next recurrent_gemma rwkv xlstm zamba zamba2
"""
READING, RECURRENT = frozenset(READ_BY_ADAPTERS.split()), frozenset(WITH_A_STATE.split())


def is_alibi(config) -> bool:
    """Whether distances are a bias on the attention, and position ids are not read."""
    return config.model_type in ALIBI.split() or (config.model_type == "falcon" and config.alibi)


def is_by_index(config) -> bool:
    """Whether attention depends on where a key lies in the call: ALiBi, and GPT-Neo's local layers."""
    return is_alibi(config) or config.model_type == "gpt_neo"


def is_hard(config) -> bool:
    """Whether no position beyond the limit exists."""
    return config.model_type in TABLED.split() or config.model_type == "mpt"


def position_limit(config) -> int | None:
    """How many positions a language model has or was trained on; None where no number says so."""
    text = config.get_text_config()
    if text.model_type == "mpt":
        return text.max_seq_len
    limit = None if is_alibi(config) else getattr(text, "max_position_embeddings", None)
    scaling = getattr(text, "rope_parameters", None) or {}
    stretched = (scaling.get("factor") or 1) * (scaling.get("original_max_position_embeddings") or 0)  # YaRN
    return max(limit, int(stretched)) if limit else None


def decoder_layers(lm: nn.Module) -> nn.ModuleList:
    """The decoder's layers. Raises ValueError for a family without `layers` of `self_attn`."""
    layers = getattr(lm.get_decoder(), "layers", None)
    if layers is None or not hasattr(layers[0], "self_attn"):
        raise ValueError(
            f"cross-attention adapters: {type(lm).__name__} has no layers with a self_attn; use Qwen2, Llama or Mistral"
        )
    return layers


def adds_attention(layer: nn.Module) -> nn.Module:
    """The part of a decoder layer whose output is added to what entered it: its attention, or the norm behind that."""
    if hasattr(layer, "post_self_attn_layernorm"):  # GLM-4
        return layer.post_self_attn_layernorm
    behind = hasattr(layer, "pre_feedforward_layernorm") or hasattr(layer, "post_feedforward_layernorm")
    return getattr(layer, "post_attention_layernorm", layer.self_attn) if behind else layer.self_attn  # Gemma 3, OLMo 2


@torch.no_grad()
def check_residual(lm: nn.Module, layer: nn.Module) -> None:
    """Raise ValueError unless a part of the layer takes up what entered the layer plus its attention."""
    seen: dict[str, Tensor] = {}
    sums: list[Tensor] = []

    def enters(_, args, kwargs):
        seen["entered"] = args[0] if args else kwargs["hidden_states"]

    def attends(_, args, output):
        seen["mixed"] = output[0] if isinstance(output, tuple) else output

    def goes_on(_, args):
        sums.extend(arg for arg in args[:1] if isinstance(arg, Tensor) and "mixed" in seen)

    hooks = [layer.register_forward_pre_hook(enters, with_kwargs=True)]
    hooks += [adds_attention(layer).register_forward_hook(attends)]
    hooks += [part.register_forward_pre_hook(goes_on) for part in layer.children()]
    try:
        embeds = torch.randn(1, 2, lm.get_input_embeddings().embedding_dim, generator=torch.Generator().manual_seed(0))
        weight = lm.get_input_embeddings().weight
        lm(inputs_embeds=embeds.to(weight.device, weight.dtype), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not any(torch.equal(part, seen["entered"] + seen["mixed"]) for part in sums):
        raise ValueError(
            f"cross-attention adapters: in {type(lm).__name__} a layer does not go on with its input plus its "
            "attention; use a pre-norm decoder such as Qwen2, Llama or Mistral"
        )
