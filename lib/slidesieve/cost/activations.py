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

from slidesieve.compressors.result import Compressor
from slidesieve.cost.counted import hollow
from slidesieve.cost.methods import METHODS, Method, Sizes, visual_tokens
from slidesieve.cost.models import DECODERS, Case, decoder, made_of, slide
from slidesieve.features.bag import collate
from slidesieve.models.chat import Turn, pack
from slidesieve.models.cross_attention import LatentReader
from slidesieve.models.fusion import Fusion
from slidesieve.models.options import own_options

WEIGHT_BYTES, LEARNED_BYTES = 2, 16
FEW = 256  # tiles


def step_bytes(case: Case) -> dict[str, int]:
    """Bytes of a training step with the language model frozen, by what they are for."""
    with torch.device("meta"):
        lm = decoder(case.decoder, torch.bfloat16).requires_grad_(False)
    ours, method = made_of(case, lm), METHODS[case.method]
    first = method.carried_by.first_layer(DECODERS[case.decoder].layers, **case.sizes.options)
    t = visual_tokens(method, case.sizes, training=True) + case.text
    learnt = {p for part in ours if part is not None for p in part.parameters()}
    return {
        "language model": WEIGHT_BYTES * sum(p.numel() for p in lm.parameters()),
        "what learns": LEARNED_BYTES * sum(p.numel() for p in learnt),
        "saved in the language model": saved_in_decoder(lm, t, first),
        "saved in our parts": saved_in_ours(case, *ours),
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


def saved_in_ours(case: Case, encoder: nn.Module | None, compressor: Compressor, fusion: Fusion) -> int:
    """Bytes that a slide and, behind adapters, a turn's hidden states leave behind in our parts, which are run.

    Raises ValueError for a fusion inside the language model whose bytes are not known.
    """
    batch, lm = collate([slide(case.n, case.d)]), hollow(DECODERS[case.decoder])
    modules = nn.ModuleList(part for part in (encoder, compressor, fusion) if part is not None).train()
    with saved(modules) as sizes:
        x = encoder(batch.x, batch.mask) if encoder is not None else batch.x
        compressed = compressor(x, batch.coords, batch.mask)
        if fusion.is_prefix:
            fusion.feed(lm, compressed, pack([[Turn([0] * case.text, [])]]))
        elif isinstance(fusion, LatentReader):
            _read(fusion, compressed.tokens, case.text)
        else:
            raise ValueError(f"{case.method}: bytes that {type(fusion).__name__} saves in a decoder are not known here")
    return sum(sizes.values())


def kept_a_tile(method: Method, sizes: Sizes) -> float:
    """Values that a compressor saves of a tile and feature, as a run on a few tiles shows."""
    made, batch = method.made_by, collate([slide(FEW, sizes.d)])
    part = made(sizes.d, sizes.k, seed=0, **own_options(made, sizes.options)).train()
    with saved(part) as found:
        part(batch.x.requires_grad_(), batch.coords, batch.mask)
    return sum(found.values()) / (FEW * sizes.d * batch.x.element_size())


def _read(reader: LatentReader, latents: Tensor, text: int) -> None:
    for adapter in reader.adapters:
        hidden = torch.randn(1, text, adapter.query.in_features, requires_grad=True)
        bias = torch.zeros(1, text, latents.shape[1])
        adapter(hidden, *adapter.keys(latents), bias, torch.ones(1, text))


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
