"""From words to token ids: the chat turn around the visual tokens, and many answers packed behind one visual prefix.

A `Turn` is a prompt with one or more alternative answers. All turns about a slide share its visual prefix in a single
sequence: a turn sees the prefix and itself, an answer sees its own prompt and no other answer, and every turn counts
its positions from the end of the prefix, so that each is read exactly as if it had been asked alone.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

VISUAL = "<visual>"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = "\n{text}\nAnswer:"  # after the visual tokens, for a model without a template
TEMPLATES = ("own", "chatml")
# For templates that print today's date (Llama 3's, by either name): a prompt is the same on every day.
A_DAY = "26 Jul 2024"
TODAY = (
    "{%- macro strftime_now(form) -%}{{ {'%Y-%m-%d': '2024-07-26', '%B %d, %Y': 'July 26, 2024'}.get(form, '"
    + A_DAY
    + "') }}{%- endmacro -%}"
)
STOPS = ("<|im_end|>", "<|endoftext|>")  # the first one ends a ChatML turn
IGNORE = -1


class Turn(NamedTuple):
    """Token ids of one prompt and of its alternative answers, each ending with the end-of-turn token."""

    prompt: list[int]
    answers: list[list[int]]


class Texts(NamedTuple):
    """Packed turns, one row a slide, padded at the end.

    `offset` is a token's position counted from the end of the visual span, `sees[i, j]` whether token i may attend to
    token j, `predictor` the text token whose logits predict this one, `answer` the running number of the answer that
    the token belongs to (counted over the whole batch; IGNORE for prompts and padding), and `turn` the number of its
    turn within the row (IGNORE for padding).
    """

    ids: Int[Tensor, "b t"]
    offset: Int[Tensor, "b t"]
    sees: Bool[Tensor, "b t t"]
    predictor: Int[Tensor, "b t"]
    answer: Int[Tensor, "b t"]
    turn: Int[Tensor, "b t"]

    def to(self, device) -> "Texts":
        return Texts(*(part.to(device) for part in self))


class ChatFormat:
    """A tokenizer's chat turn, split where the visual tokens go: first thing in the user's turn.

    `template` "own" is the tokenizer's, answers ended by its end-of-text token; for a tokenizer without one, ChatML if
    it has ChatML's marks as tokens, else plain text: the visual tokens, then "\\n{text}\\nAnswer:" and " answer".
    "chatml" is SlideChat's: `<|im_start|>user`, never a system turn, answers ended by `<|im_end|>` (the end-of-text
    token if that is no single token). Before it all stands `lead`: what the tokenizer puts in front of any text (BOS),
    unless the template writes it. `end` is the token that ends an answer, `stops` are those at which a generation ends.

    A template is rendered once: `rendered` is kept with a trained model, which gets it back as `rendered`.
    """

    def __init__(self, tokenizer, template: str = "own", rendered: Mapping[str, str] | None = None):
        if template not in TEMPLATES:
            raise ValueError(f"chat template: got {template!r}; expected one of {TEMPLATES}")
        self.tokenizer = tokenizer
        self.rendered = dict(rendered or self._render(template))
        self.head, self._after = self._encode(self.rendered["head"]), self.rendered["after"]
        self.lead = self._lead()
        if self.head[: len(self.lead)] != self.lead:
            self.head = self.lead + self.head
        stops = [self._single(token) for token in STOPS] if template == "chatml" else []
        self.end = stops[0] if stops and stops[0] is not None else tokenizer.eos_token_id
        if self.end is None:
            raise ValueError(f"{tokenizer.name_or_path}: no end-of-turn token; set eos_token in the tokenizer's config")
        self.stops = {self.end, *stops} - {None}

    def turn(self, prompt: str, answers: list[str] | tuple[str, ...]) -> Turn:
        after = self._after.replace("{text}", prompt)
        return Turn(self._encode(after), [[*self._answer(answer), self.end] for answer in answers])

    def words(self, prompt: str) -> str:
        """A prompt as the language model reads it, from its first token on, VISUAL where the visual tokens go."""
        lead, head = self.tokenizer.decode(self.lead), self.rendered["head"]
        return f"{'' if head.startswith(lead) else lead}{head}{VISUAL}{self._after.replace('{text}', prompt)}"

    def _render(self, template: str) -> dict[str, str]:
        """The template's text before the visual tokens and after them, `{text}` where the user's goes."""
        own = template == "own" and bool(self.tokenizer.chat_template)
        if template == "own" and not own and self._single("<|im_start|>") is None:
            return {"head": "", "after": PLAIN}
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{VISUAL}\n{{text}}"}],
            tokenize=False,
            add_generation_prompt=True,
            chat_template=dated(self.tokenizer.get_chat_template()) if own else CHATML,
            date_string=A_DAY,
        )
        if rendered.count(VISUAL) != 1 or rendered.count("{text}") != 1:
            raise ValueError(f"chat template: got {rendered!r}; expected the user's text once and unchanged")
        head, after = rendered.split(VISUAL)
        return {"head": head, "after": after}

    def _lead(self) -> list[int]:
        """What the tokenizer puts in front of a text by itself: BOS for Gemma and Llama, nothing for Qwen."""
        bare, whole = self._encode("a"), self.tokenizer("a", add_special_tokens=True)["input_ids"]
        starts = (i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare)
        return whole[: next(starts, 0)]

    def _answer(self, answer: str) -> list[int]:
        """An answer's tokens as they follow the prompt: after "Answer:" comes a space, which many write into a word."""
        if self._after != PLAIN:
            return self._encode(answer)
        before, both = self._encode("Answer:"), self._encode(f"Answer: {answer}")
        return both[len(before) :] if both[: len(before)] == before else self._encode(f" {answer}")

    def _single(self, token: str) -> int | None:
        ids = self._encode(token)
        return ids[0] if len(ids) == 1 and self.tokenizer.decode(ids) == token else None

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def dated(template: str) -> str:
    """A template in which today is always the same day."""
    return TODAY + template if "strftime_now" in template else template


def pack(rows: list[list[Turn]]) -> Texts:
    """Pack each slide's turns into one row."""
    packed, first = [], 0
    for turns in rows:
        packed.append(_pack_row(turns, first))
        first += sum(len(turn.answers) for turn in turns)
    b, t = len(packed), max(row.ids.shape[1] for row in packed)
    texts = Texts(
        ids=torch.zeros(b, t, dtype=torch.long),
        offset=torch.zeros(b, t, dtype=torch.long),
        sees=torch.eye(t, dtype=torch.bool).repeat(b, 1, 1),
        predictor=torch.zeros(b, t, dtype=torch.long),
        answer=torch.full((b, t), IGNORE),
        turn=torch.full((b, t), IGNORE),
    )
    for i, row in enumerate(packed):
        length = row.ids.shape[1]
        texts.sees[i, :length, :length] = row.sees[0]
        for name in ("ids", "offset", "predictor", "answer", "turn"):
            getattr(texts, name)[i, :length] = getattr(row, name)[0]
    return texts


def _pack_row(turns: list[Turn], first: int) -> Texts:
    ids, offset, predictor, answer, belongs = [], [], [], [], []
    blocks = []  # (start, stop, start of the prompt, stop of the prompt) of each prompt and answer
    for number, turn in enumerate(turns):
        start = len(ids)
        size = len(turn.prompt)
        ids += turn.prompt
        offset += range(size)
        predictor += [max(start + i - 1, 0) for i in range(size)]
        answer += [IGNORE] * size
        blocks.append((start, start + size, start, start))
        for tokens in turn.answers:
            at = len(ids)
            ids += tokens
            offset += range(size, size + len(tokens))
            predictor += [start + size - 1, *range(at, at + len(tokens) - 1)]
            answer += [first] * len(tokens)
            blocks.append((at, len(ids), start, start + size))
            first += 1
        belongs += [number] * (len(ids) - start)
    sees = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    for start, stop, prompt_start, prompt_stop in blocks:
        sees[start:stop, prompt_start:prompt_stop] = True
        sees[start:stop, start:stop] = torch.ones(stop - start, stop - start).tril().bool()
    listed = (torch.tensor([values]) for values in (ids, offset, predictor, answer, belongs))
    ids, offset, predictor, answer, belongs = listed
    return Texts(ids, offset, sees[None], predictor, answer, belongs)
