"""Who attends to whom, as `transformers` takes it: ready masks, one for each kind of layer where a model has several.

A sliding window counts the tokens of the plain sequence [head | visual tokens | question | answer] by their order
there, as `transformers`' own causal masks do, never by position ids: a query of order o sees the keys of orders
o - window + 1 to o. Where turns are packed, a token's order is the prefix's real tokens plus its place in its own turn.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

EVERY = ""  # the one kind of layer of a model whose layers are all alike
SLIDING = "sliding_attention"


def windows_of(config) -> dict[str, int | None]:
    """Map each kind of attention layer to its window, None if it sees everything; EVERY where all are alike."""
    text = config.get_text_config()
    kinds, window = set(getattr(text, "layer_types", None) or ()), getattr(text, "sliding_window", None)
    if SLIDING in kinds:
        return {kind: window if kind == SLIDING else None for kind in sorted(kinds)}
    return {EVERY: None if kinds else window}


def ready_masks(
    config, allowed: Bool[Tensor, "b q l"], asks: Int[Tensor, "b q"], asked: Int[Tensor, "b l"], dtype: torch.dtype
) -> Float[Tensor, "b 1 q l"] | dict[str, Float[Tensor, "b 1 q l"]]:
    """Windows put over `allowed`, by the orders of queries and keys; a dict for a model of several kinds of layers."""
    windows = windows_of(config)
    distance = asks.unsqueeze(2) - asked.unsqueeze(1) if any(windows.values()) else None
    masks = {
        kind: additive_mask(allowed & (distance < window) if window else allowed, dtype)
        for kind, window in windows.items()
    }
    return masks.get(EVERY, masks)


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


def additive_mask(allowed: Bool[Tensor, "b q l"], dtype: torch.dtype) -> Float[Tensor, "b 1 q l"]:
    """The mask as every attention backend of `transformers` takes it: 0 where allowed, the lowest number elsewhere."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
        ~allowed, torch.finfo(dtype).min
    )[:, None]
