"""What we ask of a language model, read off its config and tokenizer before any weights: it serves, or a line why not.

We give a causal language model embeddings instead of ids, positions with gaps, ready masks and a key-value cache, and
read logits. Which families honour all that: `decoder_families`.
"""

import os
import socket
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils.logging import disable_progress_bar

from slidesieve.models.attention_masks import EVERY, SLIDING, windows_of
from slidesieve.models.chat import ChatFormat
from slidesieve.models.decoder_families import FAMILIES, READING, RECURRENT, is_by_index, is_hard, position_limit

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KINDS = {"full_attention", SLIDING}  # of layers; chunked and linear attention are others
OTHER_MEDIA = ("image", "audio", "video", "vision")  # their placeholders may lack a row: text never asks for them


class Facts(NamedTuple):
    """What is true of a language model.

    `windows` by kind of layer, None where it sees everything; `limit` positions, and whether no more exist (`hard`);
    `rows` of the embedding beside `tokens` of the tokenizer; `end` ends an answer, `lead` stands in front of any text.
    """

    name: str
    family: str
    attention: str
    windows: dict[str, int | None]
    windowed_layers: tuple[int, ...]
    limit: int | None
    hard: bool
    width: int
    layers: int
    rows: int
    tokens: int
    end: int
    lead: list[int]
    template: bool
    reads_latents: bool
    parameters: int


def examine(path_or_id: str, *, chat_template: str = "own", longest: int = 0, latents: bool = False) -> Facts:
    """Open config and tokenizer, no weights; raise ValueError, in one line, for a language model that cannot serve.

    `longest`: positions that will be needed, 0 if not known; `latents`: whether adapters are to read latents.
    """
    config, tokenizer = _opened(path_or_id)
    facts = _facts(path_or_id, config, tokenizer, chat_template)
    if latents and not facts.reads_latents:
        raise ValueError(
            f"{path_or_id}: latents cannot be read by {facts.family}, whose layers do not go on with their input plus "
            "their attention; use Qwen2, Llama, Mistral or Gemma, or a compressor with a visual prefix"
        )
    check_positions(str(path_or_id), config, longest)
    return facts


def load_lm(path_or_id: str, *, dtype: str = "auto", device: str = "cpu") -> tuple[nn.Module, object]:
    """Load a language model that serves, and its tokenizer, by folder or hub id.

    `dtype`: float32, bfloat16, or auto: float32 on a CPU, else as stored, and bfloat16 for float16, which cannot learn.
    """
    disable_progress_bar()
    leave_out_cudnn_attention()
    config, tokenizer = _opened(path_or_id)
    facts = _facts(path_or_id, config, tokenizer, "own" if tokenizer.eos_token_id is not None else "chatml")
    wanted = dtype_of(dtype, device, config)
    return AutoModelForCausalLM.from_pretrained(
        path_or_id, dtype=wanted, attn_implementation=facts.attention
    ), tokenizer


def leave_out_cudnn_attention() -> None:
    """Have a GPU take the flash kernel: cuDNN's plans anew for each new length, and bags are of all lengths."""
    torch.backends.cuda.enable_cudnn_sdp(False)  # 161 ms where 33 do, at 12 layers: reports/gpu.md


def dtype_of(dtype: str, device: str, config) -> torch.dtype:
    """The type of the weights in memory."""
    if dtype not in ("auto", *DTYPES):
        raise ValueError(f"dtype: got {dtype!r}; expected auto, float32 or bfloat16")
    if dtype != "auto":
        return DTYPES[dtype]
    stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None) or torch.float32
    stored = getattr(torch, stored) if isinstance(stored, str) else stored
    return torch.float32 if device.startswith("cpu") or stored == torch.float32 else torch.bfloat16


def check_longest(lm: nn.Module, longest: int) -> None:
    """Raise ValueError where a call needs more positions than the language model has, or has learnt."""
    if (config := getattr(lm, "config", None)) is not None:
        check_positions(config.name_or_path or type(lm).__name__, config, longest)


def check_positions(name: str, config, longest: int) -> None:
    """Raise ValueError, with both numbers, where `longest` positions are more than there are, or than were learnt."""
    limit = position_limit(config)
    if limit and longest > limit:
        whose = "has no more than" if is_hard(config) else "was trained on no more than"
        raise ValueError(
            f"{name}: {longest:,} positions are needed, {config.model_type} {whose} {limit:,}; "
            "give position_ids=scaled, or position_ids=contiguous and a lower max_tiles"
        )


def _facts(path_or_id: str, config, tokenizer, chat_template: str) -> Facts:
    """Check all that config and tokenizer tell."""
    name = f"{path_or_id} ({config.model_type})"
    _check_family(name, config)
    attention = "sdpa" if MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._supports_sdpa else "eager"
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    table = lm.get_input_embeddings()
    _check_rows(name, tokenizer, table.num_embeddings)
    chat = ChatFormat(tokenizer, template=chat_template)
    text, windows = config.get_text_config(), windows_of(config)
    kinds = getattr(text, "layer_types", None) or [EVERY] * text.num_hidden_layers
    return Facts(
        name=str(path_or_id),
        family=config.model_type,
        attention=attention,
        windows=windows,
        windowed_layers=tuple(i for i, kind in enumerate(kinds) if windows.get(kind, windows.get(EVERY))),
        limit=position_limit(config),
        hard=is_hard(config),
        width=table.embedding_dim,
        layers=text.num_hidden_layers,
        rows=table.num_embeddings,
        tokens=len(tokenizer),
        end=chat.end,
        lead=chat.lead,
        template=bool(tokenizer.chat_template),
        reads_latents=config.model_type in READING and not is_by_index(config),
        parameters=lm.num_parameters(),
    )


def _check_family(name: str, config) -> None:
    text = config.get_text_config()
    others = set(getattr(text, "layer_types", None) or ()) - KINDS
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{name}: an encoder-decoder; give a decoder-only causal language model")
    if config.model_type in RECURRENT or others:
        what = ", ".join(sorted(others)) or "a recurrent state"
        raise ValueError(
            f"{name}: layers with {what}, which ready masks and positions do not reach; give attention alone"
        )
    if config.model_type not in FAMILIES or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(
            f"{name}: not among the {len(FAMILIES)} families checked to honour embeddings, positions, masks; "
            "give a family that `python -m benchmarks.decoders` lists, such as qwen2, llama, mistral or gemma3_text"
        )
    if getattr(text, "use_bidirectional_attention", None) in (True, "all"):
        raise ValueError(f"{name}: attends to later tokens (use_bidirectional_attention); give a causal language model")


def _check_rows(name: str, tokenizer, rows: int) -> None:
    unasked = {token for token in tokenizer.get_added_vocab() if any(word in token for word in OTHER_MEDIA)}
    beyond = [token for token, number in tokenizer.get_vocab().items() if number >= rows and token not in unasked]
    if beyond:
        raise ValueError(
            f"{name}: the tokenizer has {len(tokenizer):,} tokens, the embedding {rows:,} rows, none for {beyond[0]!r};"
            " give the tokenizer of these weights"
        )


def _opened(path_or_id: str) -> tuple[object, object]:
    """Config and tokenizer, from the local cache if it has them."""
    try:
        return _open(path_or_id, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        fault = error
    if not Path(path_or_id).exists() and hub_answers():
        try:
            return _open(path_or_id, local_files_only=False)
        except (OSError, ValueError, KeyError, ImportError) as error:
            fault = error
    line = str(fault).strip().partition("\n")[0]
    raise ValueError(f"{path_or_id}: no language model that transformers can open ({line})") from fault


def _open(path_or_id: str, *, local_files_only: bool) -> tuple[object, object]:
    config = AutoConfig.from_pretrained(path_or_id, local_files_only=local_files_only)
    return config, AutoTokenizer.from_pretrained(path_or_id, local_files_only=local_files_only)


def hub_answers(seconds: float = 2.0) -> bool:
    """Whether the hub can be reached: without asking, a machine without network waits half a minute for retries."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((hub.hostname, hub.port or 443), timeout=seconds).close()
    except OSError:
        return False
    return True
