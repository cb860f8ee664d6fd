"""What a training step must keep in memory, for language models too large to run here.

    bytes = 2 for each weight of the language model (bf16, frozen)
          + 16 for each weight that learns (itself, its gradient, AdamW's two moments; float32)
          + what the forward pass saves for the backward pass

The decoder's share of the last line is counted on tensors without storage, ours by running our parts (float32). No
scores of attention are counted in the decoder, since fused kernels keep none. The sum knows no workspace, no
fragmentation and no gradient in passing: an allocator's peak lies above it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from slidesieve.cost.methods import METHODS, visual_tokens
from slidesieve.cost.models import Case, decoder, parts_of, slide
from slidesieve.features.bag import collate

WEIGHT_BYTES, LEARNED_BYTES = 2, 16


def step_bytes(case: Case) -> dict[str, int]:
    """Bytes of a training step with the language model frozen, by what they are for."""
    with torch.device("meta"):
        lm = decoder(case.decoder, torch.bfloat16).requires_grad_(False)
    parts = parts_of(case, lm)
    first = parts["reader"].layers[0] if "reader" in parts else 0
    t = visual_tokens(METHODS[case.method], case.sizes, training=True) + case.text
    return {
        "language model": WEIGHT_BYTES * sum(p.numel() for p in lm.parameters()),
        "what learns": LEARNED_BYTES * sum(p.numel() for part in parts.values() for p in part.parameters()),
        "saved in the language model": saved_in_decoder(lm, t, first),
        "saved in our parts": saved_in_ours(case, parts),
    }


def saved_in_decoder(lm: nn.Module, t: int, first: int = 0) -> int:
    """Bytes that t tokens leave behind in a decoder on the meta device, gradients reaching back to layer `first`."""
    h = lm.get_input_embeddings().embedding_dim

    def begin(layer, args):
        return (args[0].detach().requires_grad_(), *args[1:])

    hook = lm.get_decoder().layers[first].register_forward_pre_hook(begin)
    no_mask = {"full_attention": None}  # plain causal attention: a mask's values could not be looked at
    embeds = torch.empty(1, t, h, dtype=lm.dtype, device="meta")
    positions = torch.arange(t, device="meta").unsqueeze(0)
    try:
        with saved(lm, but=(t, t)) as sizes:
            lm(inputs_embeds=embeds, attention_mask=no_mask, position_ids=positions, logits_to_keep=1, use_cache=False)
    finally:
        hook.remove()
    return sum(sizes.values())


def saved_in_ours(case: Case, parts: dict[str, nn.Module]) -> int:
    """Bytes that a slide and, behind adapters, a turn's hidden states leave behind in our parts, which are run."""
    batch = collate([slide(case.n, case.d)])
    modules = nn.ModuleList(parts.values()).train()
    with saved(modules) as sizes:
        x = parts["slide encoder"](batch.x, batch.mask) if "slide encoder" in parts else batch.x
        tokens = parts["compressor"](x, batch.coords, batch.mask).tokens
        if "projector" in parts:
            parts["projector"](tokens)
        for adapter in parts["reader"].adapters if "reader" in parts else ():
            hidden = torch.randn(1, case.text, adapter.query.in_features, requires_grad=True)
            read = torch.ones(1, case.text)
            adapter(hidden, *adapter.keys(tokens), torch.zeros(1, case.text, tokens.shape[1]), read)
    return sum(sizes.values())


@contextmanager
def saved(module: nn.Module, *, but: tuple[int, int] = (-1, -1)) -> Iterator[dict[int, int]]:
    """Fill in the bytes of every storage that autograd saves, once each: neither weights nor shape `but`."""
    weights = {p.untyped_storage()._cdata for p in module.parameters()}
    sizes: dict[int, int] = {}
    kept = []  # a storage that dies would lend its number to the next

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in weights and value.shape[-2:] != but:
            sizes[storage._cdata] = storage.nbytes()
            kept.append(storage)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        yield sizes
