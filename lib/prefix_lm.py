"""A causal language model behind a prefix of visual tokens.

    [head of the user's turn | visual tokens | the question ... | the answer]

Visual tokens claim the positions their compressor gives them; text starts at the end of the visual span. Any
`transformers` causal LM works: only `inputs_embeds`, `position_ids` and masks are used.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from lib.prompts import Texts


class Prefix(NamedTuple):
    """Embedded visual tokens, ready for the language model."""

    embeds: Float[Tensor, "b m h"]
    mask: Bool[Tensor, "b m"]
    positions: Int[Tensor, "b m"]
    span: Int[Tensor, " b"]


def load_lm(path_or_id: str) -> tuple[nn.Module, object]:
    """Load any causal language model and its tokenizer by folder or hub id."""
    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(path_or_id)
    return AutoModelForCausalLM.from_pretrained(path_or_id, dtype="auto"), tokenizer


def answer_log_probs(lm: nn.Module, head: list[int], prefix: Prefix, texts: Texts) -> Float[Tensor, "b t"]:
    """Log-probability of each answer token after [head | prefix | its prompt]; 0 elsewhere."""
    predicted = text_logits(lm, head, prefix, texts).float().log_softmax(-1)
    row = predicted.gather(1, texts.predictor.unsqueeze(-1).expand(-1, -1, predicted.shape[-1]))
    chosen = row.gather(-1, texts.ids.unsqueeze(-1)).squeeze(-1)
    return chosen * (texts.answer >= 0)


def text_logits(lm: nn.Module, head: list[int], prefix: Prefix, texts: Texts) -> Float[Tensor, "b t v"]:
    """Run [head | prefix | texts] through the language model; the logits at the text's tokens."""
    embed = lm.get_input_embeddings()
    device, b = texts.ids.device, len(texts.ids)
    start = embed(torch.tensor(head, dtype=torch.long, device=device)).expand(b, -1, -1)
    embeds = torch.cat([start, prefix.embeds, embed(texts.ids)], dim=1)
    heads = torch.arange(len(head), device=device).expand(b, -1)
    after = (len(head) + prefix.span).unsqueeze(-1)
    positions = torch.cat([heads, len(head) + prefix.positions, after + texts.offset], dim=1)
    real = torch.cat([torch.ones_like(heads, dtype=torch.bool), prefix.mask], dim=1)
    out = lm(
        inputs_embeds=embeds,
        attention_mask=additive_mask(prefix_sees(real, texts.sees), embeds.dtype),
        position_ids=positions,
        logits_to_keep=texts.ids.shape[1],
        use_cache=False,
    )
    return out.logits


def prefix_sees(real: Bool[Tensor, "b m"], sees: Bool[Tensor, "b t t"]) -> Bool[Tensor, "b l l"]:
    """Who attends to whom: the prefix causally to itself, text to the whole prefix and as `sees` says.

    Every token sees itself, padding too: a row of nothing would be NaN in the softmax.
    """
    b, m = real.shape
    t = sees.shape[1]
    allowed = torch.zeros(b, m + t, m + t, dtype=torch.bool, device=real.device)
    allowed[:, :m, :m] = torch.ones(m, m, dtype=torch.bool, device=real.device).tril() & real.unsqueeze(1)
    allowed[:, m:, :m] = real.unsqueeze(1)
    allowed[:, m:, m:] = sees
    return allowed | torch.eye(m + t, dtype=torch.bool, device=real.device)


def additive_mask(allowed: Bool[Tensor, "b l l"], dtype: torch.dtype) -> Float[Tensor, "b 1 l l"]:
    """The mask as every attention backend of `transformers` takes it: 0 where allowed, the lowest number elsewhere."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
        ~allowed, torch.finfo(dtype).min
    )[:, None]
