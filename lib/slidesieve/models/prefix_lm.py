"""A causal language model behind a prefix of visual tokens.

    [head of the user's turn | visual tokens | the question ... | the answer]

Visual tokens claim the positions their compressor gives them; text starts at the end of the visual span. Only
`inputs_embeds`, `position_ids`, masks and the key-value cache of a `transformers` causal LM are used (which families:
`language_model`). There are four ways through it, and they agree to rounding with one plain sequence for each answer:

chain     each slide has one turn with one answer: plain causal attention, no mask, flash kernels     linear memory
shared    no gradient: the prefix once into a cache, then all turns and answers behind it             linear in m
packed    a gradient through several turns or answers: one dense mask over [prefix | texts]           (m + t)^2
separate  a family that reads places off the index of a key (ALiBi, GPT-Neo): each answer as a chain  m for each answer

Sliding windows are put into the masks of shared and packed (`attention_masks`); a chain is masked by the model itself.
The cache of the shared way drops nothing, which a model's own cache of a sliding layer would.

Positions have gaps where tiles were not kept. With no mask at all, `transformers` takes a gap for the seam between two
packed sequences, so an explicit one, all ones, is given; its flash_attention_2 looks for gaps all the same, which is
why the language model is loaded with sdpa (the flash kernel is PyTorch's), or eager where a family has no sdpa.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from slidesieve.models.attention_masks import prefix_sees, ready_masks
from slidesieve.models.chat import IGNORE, Texts
from slidesieve.models.decoder_families import is_by_index
from slidesieve.models.language_model import check_longest


class Prefix(NamedTuple):
    """Embedded visual tokens, ready for the language model.

    With `place` the language model reads the slide in another way, by adapters of its own: there are no visual tokens,
    and before every call `place` is told which turn each of its tokens belongs to (IGNORE: none).
    """

    embeds: Float[Tensor, "b m h"]
    mask: Bool[Tensor, "b m"]
    positions: Int[Tensor, "b m"]
    span: Int[Tensor, " b"]
    place: Callable[[Int[Tensor, "b l"]], None] | None = None

    def tell(self, *turns: Int[Tensor, "b part"]) -> None:
        """Say which turns the tokens of the next call belong to."""
        if self.place is not None:
            self.place(torch.cat(turns, dim=1))

    @property
    def outside(self) -> Int[Tensor, "b m"]:
        """The turns of these tokens: none."""
        return torch.full_like(self.positions, IGNORE)


def answer_log_probs(lm: nn.Module, head: list[int], prefix: Prefix, texts: Texts) -> Float[Tensor, "b t"]:
    """Log-probability of each answer token after [head | prefix | its prompt]; 0 elsewhere. In float32.

    Logits are computed only where an answer's token is predicted: a vocabulary is wide.
    """
    answers = texts.answer >= 0
    columns = texts.predictor[answers].unique()
    slide, token = answers.nonzero(as_tuple=True)
    place = torch.searchsorted(columns, texts.predictor[slide, token])
    predicted = text_logits(lm, head, prefix, texts, columns)[slide, place].float()
    chosen = -F.cross_entropy(predicted, texts.ids[slide, token], reduction="none")
    return chosen.new_zeros(texts.ids.shape).index_put((slide, token), chosen)


def text_logits(
    lm: nn.Module, head: list[int], prefix: Prefix, texts: Texts, columns: Int[Tensor, " u"] | None = None
) -> Float[Tensor, "b u v"]:
    """Run [head | prefix | texts] through the language model; the logits at the text's tokens, or at some of them."""
    columns = torch.arange(texts.ids.shape[1], device=texts.ids.device) if columns is None else columns
    front = real_tokens_first(with_head(lm, head, prefix))
    check_longest(lm, int((front.span + texts.offset.amax(1)).max()) + 1)
    if is_chain(texts):
        return chain_logits(lm, front, texts, columns)
    if is_by_index(lm.config):
        return separate_logits(lm, front, texts, columns)
    return (packed_logits if torch.is_grad_enabled() else shared_logits)(lm, front, texts, columns)


def chain_logits(lm: nn.Module, front: Prefix, texts: Texts, columns: Int[Tensor, " u"]) -> Float[Tensor, "b u v"]:
    """One chain a slide: all padding stands at the end, where causal attention never looks, so no mask is needed."""
    joined = real_tokens_first(
        Prefix(
            torch.cat([front.embeds, lm.get_input_embeddings()(texts.ids)], dim=1),
            torch.cat([front.mask, in_chain(texts)], dim=1),
            torch.cat([front.positions, front.span.unsqueeze(-1) + texts.offset], dim=1),
            front.span,
        )
    )
    front.tell(front.outside, texts.turn)
    places = front.mask.sum(-1, keepdim=True) + columns  # (b u): text follows each slide's own real tokens
    kept = places.unique()
    logits = lm(**_causal(joined), logits_to_keep=kept, use_cache=False).logits
    rows = torch.arange(len(places), device=places.device).unsqueeze(-1)
    return logits[rows, torch.searchsorted(kept, places)]


def shared_logits(lm: nn.Module, front: Prefix, texts: Texts, columns: Int[Tensor, " u"]) -> Float[Tensor, "b u v"]:
    """The prefix once, then every turn and answer at once on its keys and values; a mask of t x (m + t)."""
    cache = DynamicCache()
    if front.mask.shape[1]:
        front.tell(front.outside)
        lm(**_causal(front), past_key_values=cache, use_cache=True, logits_to_keep=1)
    embeds = lm.get_input_embeddings()(texts.ids)
    allowed = torch.cat([front.mask.unsqueeze(1).expand(-1, texts.ids.shape[1], -1), texts.sees], dim=2)
    order = orders(front, texts)
    front.tell(texts.turn)
    return lm(
        inputs_embeds=embeds,
        attention_mask=ready_masks(lm.config, allowed, order[:, -texts.ids.shape[1] :], order, embeds.dtype),
        position_ids=front.span.unsqueeze(-1) + texts.offset,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=columns,
    ).logits


def packed_logits(lm: nn.Module, front: Prefix, texts: Texts, columns: Int[Tensor, " u"]) -> Float[Tensor, "b u v"]:
    """All at once under a dense mask: for short prefixes, or where a gradient must reach a prefix through many turns.

    Real tokens may stand anywhere in `front`.
    """
    embeds = torch.cat([front.embeds, lm.get_input_embeddings()(texts.ids)], dim=1)
    order = orders(front, texts)
    front.tell(front.outside, texts.turn)
    return lm(
        inputs_embeds=embeds,
        attention_mask=ready_masks(lm.config, prefix_sees(front.mask, texts.sees), order, order, embeds.dtype),
        position_ids=torch.cat([front.positions, front.span.unsqueeze(-1) + texts.offset], dim=1),
        logits_to_keep=front.mask.shape[1] + columns,
        use_cache=False,
    ).logits


def separate_logits(lm: nn.Module, front: Prefix, texts: Texts, columns: Int[Tensor, " u"]) -> Float[Tensor, "b u v"]:
    """Each answer (or a prompt without one) as a chain of its own, one after the other; prompts are run again."""
    found: Tensor | None = None
    for row, chain in chains(texts):
        wanted = torch.isin(columns, chain)
        own = Texts(*(part[row : row + 1, chain] for part in texts))
        own = own._replace(sees=own.sees[:, :, chain])
        alone = Prefix(*(part[row : row + 1] for part in front[:4]), front.place)
        logits = chain_logits(lm, alone, own, torch.searchsorted(chain, columns[wanted]))[0]
        found = logits.new_zeros(len(texts.ids), len(columns), logits.shape[-1]) if found is None else found
        found = found.index_put((torch.tensor(row, device=chain.device), wanted.nonzero()[:, 0]), logits)
    return found


def chains(texts: Texts) -> list[tuple[int, Int[Tensor, " c"]]]:
    """The row and the columns of each token that no other looks at, with all that it looks at, in order."""
    real = texts.turn != IGNORE
    itself = torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
    last = real & ~(texts.sees & real.unsqueeze(2) & ~itself).any(1)
    return [(row, texts.sees[row, column].nonzero()[:, 0]) for row, column in last.nonzero().tolist()]


def orders(front: Prefix, texts: Texts) -> Int[Tensor, "b l"]:
    """Each token's number in the plain sequence of its own slide, question and answer; padding's means nothing."""
    return torch.cat([front.mask.long().cumsum(1) - 1, front.mask.sum(1, keepdim=True) + texts.offset], dim=1)


def with_head(lm: nn.Module, head: list[int], prefix: Prefix) -> Prefix:
    """[head | prefix]: `span` becomes the position of the first text token."""
    device, b, h = prefix.embeds.device, len(prefix.embeds), len(head)
    embeds = lm.get_input_embeddings()(torch.tensor(head, dtype=torch.long, device=device)).expand(b, -1, -1)
    place = torch.arange(h, device=device).expand(b, -1)
    return Prefix(
        torch.cat([embeds, prefix.embeds], dim=1),
        torch.cat([torch.ones_like(place, dtype=torch.bool), prefix.mask], dim=1),
        torch.cat([place, h + prefix.positions], dim=1),
        h + prefix.span,
        prefix.place,
    )


def real_tokens_first(prefix: Prefix) -> Prefix:
    """Move padding to the end; real tokens keep their order and their positions."""
    if prefix.mask.all():
        return prefix
    order = (~prefix.mask).sort(dim=1, stable=True).indices
    embeds = prefix.embeds.gather(1, order.unsqueeze(-1).expand(-1, -1, prefix.embeds.shape[-1]))
    return Prefix(embeds, prefix.mask.gather(1, order), prefix.positions.gather(1, order), prefix.span, prefix.place)


def is_chain(texts: Texts) -> bool:
    """Whether each row is one turn with at most one answer: its i-th token sees the i + 1 first, padding itself."""
    step = torch.arange(1, texts.ids.shape[1] + 1, device=texts.ids.device)
    return bool((texts.sees.sum(-1) == torch.where(in_chain(texts), step, 1)).all())


def in_chain(texts: Texts) -> Bool[Tensor, "b t"]:
    """The tokens of a chain that are not padding."""
    first = torch.arange(texts.ids.shape[1], device=texts.ids.device) == 0
    return first | (texts.offset > 0)


def _causal(prefix: Prefix) -> dict[str, Tensor]:
    """What runs a sequence whose padding stands at the end under plain causal attention."""
    return {
        "inputs_embeds": prefix.embeds,
        "attention_mask": torch.ones_like(prefix.mask, dtype=torch.long),
        "position_ids": prefix.positions,
    }
