"""Greedy decoding behind a prefix of visual tokens, many slides at once."""

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from slidesieve.models.chat import IGNORE
from slidesieve.models.decoder_families import is_by_index
from slidesieve.models.language_model import check_longest
from slidesieve.models.prefix_lm import Prefix, with_head


@torch.no_grad()
def greedy(
    lm: nn.Module, head: list[int], prefix: Prefix, prompts: list[list[int]], *, stops: set[int], most: int
) -> list[list[int]]:
    """For each slide and its prompt the likeliest next token, again and again, to one of `stops` (included) or `most`.

    Padding stands before the first token. Families that read places off the index of a key are asked one by one.
    """
    if len(prompts) > 1 and is_by_index(lm.config):
        rows = [Prefix(*(part[i : i + 1] for part in prefix[:4]), prefix.place) for i in range(len(prompts))]
        return [greedy(lm, head, row, [own], stops=stops, most=most)[0] for row, own in zip(rows, prompts, strict=True)]
    front, said = with_head(lm, head, prefix), [[] for _ in prompts]
    check_longest(lm, max(int(span) + len(own) for span, own in zip(front.span, prompts, strict=True)) + most)
    embeds, seen, positions, turn = _ending_together(lm, front, prompts)
    cache = DynamicCache(config=lm.config)
    while any(going := [len(own) < most and not stops & set(own[-1:]) for own in said]):
        front.tell(turn)
        logits = lm(
            inputs_embeds=embeds, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        ).logits  # fmt: skip
        chosen = logits[:, -1].argmax(-1)
        for own, token, goes_on in zip(said, chosen.tolist(), going, strict=True):
            own += [token] * goes_on
        embeds, positions, turn = lm.get_input_embeddings()(chosen[:, None]), positions[:, -1:] + 1, turn[:, -1:]
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
    return said


def _ending_together(lm: nn.Module, front: Prefix, prompts: list[list[int]]) -> tuple[Tensor, ...]:
    """Embeddings, mask, positions and turns of [front | prompt], padded at the beginning."""
    device, embed, rows = front.embeds.device, lm.get_input_embeddings(), []
    for row, prompt in enumerate(prompts):
        real, text = front.mask[row], torch.tensor(prompt, dtype=torch.long, device=device)
        where = torch.cat([front.positions[row, real], front.span[row] + torch.arange(len(prompt), device=device)])
        turn = torch.cat([front.outside[row, real], torch.zeros_like(text)])
        rows.append((torch.cat([front.embeds[row, real], embed(text)]), torch.ones_like(where), where, turn))
    fill = (0.0, 0, 0, IGNORE)
    longest = max(len(row[1]) for row in rows)
    before = [longest - len(row[1]) for row in rows]
    return tuple(
        torch.stack(
            [
                torch.cat([row[i].new_full((n, *row[i].shape[1:]), fill[i]), row[i]])
                for n, row in zip(before, rows, strict=True)
            ]
        )
        for i in range(len(fill))
    )
