"""Training the toy's language model on fresh samples of words, by the one loop, and its exam.

Every step's samples, gaps and fog are functions of (seed, step); what is kept is what does best on samples of no step.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from slidesieve.models.chat import ChatFormat, pack
from slidesieve.models.prefix_lm import Prefix, answer_log_probs
from slidesieve.synthetic.language import Sample, draw_sample
from slidesieve.synthetic.mosaic_words import draw_mosaic
from slidesieve.training.loop import fit
from slidesieve.training.step import Settings

LONGEST_GAP = 600
MOST_FOG = 1.0  # noise on a context's embeddings, in units of their spread: a model that was never unsure learns slowly
HELD_OUT, EVALUATIONS = 96, 7  # samples to judge by, and how often


def pretrain(
    lm,
    tokenizer,
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    checkpoint: Path,
    save_minutes: float,
    mosaics: float = 0.0,
) -> pd.DataFrame:
    """Train in place on fresh samples only; return a row a step (see `loop.fit`; `score`: held-out log-likelihood).

    A share of `mosaics` of the samples are mosaics in words, the others the toy's.
    """
    rates = {name: lr for name, _ in lm.named_children()}
    held_out = np.random.default_rng([seed, steps])
    samples = [draw(held_out, mosaics) for _ in range(HELD_OUT)]

    def log_likelihood(lm: nn.Module, share) -> float:
        return -batch_loss(lm, tokenizer, work.chat, samples, np.random.default_rng([seed, steps])).item()

    work = WordLoss(tokenizer, steps=steps, batch=batch, mosaics=mosaics)
    return fit(
        lm, work, Settings(rates, weight_decay=0.01, warmup=20, clip=1.0, betas=(0.9, 0.98)), seed=seed,
        checkpoint=checkpoint, save_minutes=save_minutes, evaluate=log_likelihood, evaluations=EVALUATIONS,
    )  # fmt: skip


def draw(rng: np.random.Generator, mosaics: float) -> Sample:
    """Draw a mosaic in words with probability `mosaics`, else a sample of the toy's."""
    return draw_mosaic(rng) if mosaics and rng.random() < mosaics else draw_sample(rng)


class WordLoss:
    """`batch_loss` of samples drawn for each step; in one process, on the CPU: the toy needs no more."""

    def __init__(self, tokenizer, *, steps: int, batch: int, mosaics: float = 0.0):
        self.mosaics = mosaics
        self.tokenizer, self.chat, self.steps, self.batch = tokenizer, ChatFormat(tokenizer), steps, batch

    def check_shards(self, shards: int) -> None:
        if shards > 1:
            raise ValueError(f"toy language model: got {shards} processes; it is trained in one")

    def gradients(
        self, accelerator: Accelerator, trained: nn.Module, settings: Settings, *, seed: int, step: int, together: range
    ) -> float:
        rng = np.random.default_rng([seed, step])
        loss = batch_loss(trained, self.tokenizer, self.chat, [draw(rng, self.mosaics) for _ in range(self.batch)], rng)
        accelerator.backward(loss / len(together))
        return loss.item()


def word_prefix(
    lm, tokenizer, samples: list[Sample], rng: np.random.Generator, *, most_fog: float = MOST_FOG
) -> Prefix:
    """Embed each context's words where visual tokens would stand: half the rows without gaps, half with."""
    rows = [tokenizer.convert_tokens_to_ids(sample.words) for sample in samples]
    b, m = len(rows), max(map(len, rows))
    ids = torch.zeros(b, m, dtype=torch.long)
    positions = torch.zeros(b, m, dtype=torch.long)
    span = torch.zeros(b, dtype=torch.long)
    for i, row in enumerate(rows):
        span[i] = len(row) if rng.random() < 0.5 else int(rng.integers(len(row), LONGEST_GAP))
        ids[i, : len(row)] = torch.tensor(row)
        positions[i, : len(row)] = torch.from_numpy(np.sort(rng.choice(int(span[i]), len(row), replace=False)))
    mask = torch.arange(m) < torch.tensor([[len(row)] for row in rows])
    embeds = lm.get_input_embeddings()(ids)
    fog = torch.from_numpy(rng.uniform(0, most_fog, (b, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(embeds.shape)).float()
    return Prefix(embeds + fog * embeds.detach().std() * noise, mask, positions, span)


def batch_loss(lm, tokenizer, chat: ChatFormat, samples: list[Sample], rng: np.random.Generator) -> Float[Tensor, ""]:
    """Mean negative log-likelihood of the answers' tokens; yes / no counts twice, since it is learnt last."""
    turns = [[chat.turn(prompt, [answer]) for prompt, answer in sample.turns] for sample in samples]
    texts = pack(turns)
    log_probs = answer_log_probs(lm, chat.head, word_prefix(lm, tokenizer, samples, rng), texts)
    twice = torch.tensor([2.0 if a in ("yes", "no") else 1.0 for s in samples for _, a in s.turns])
    weight = torch.where(texts.answer >= 0, twice[texts.answer.clamp(min=0)], 0.0)
    return -(log_probs * weight).sum() / weight.sum()


@torch.no_grad()
def exam(lm, tokenizer, *, samples: int, seed: int, with_context: bool, mosaics: float = 0.0) -> pd.DataFrame:
    """Ask fresh questions, clear of fog, with or without their context; return accuracy and chance of each kind."""
    chat, rng, rows = ChatFormat(tokenizer), np.random.default_rng(seed), []
    for sample in (draw(rng, mosaics) for _ in range(samples)):
        asked = [(text, answer) for text, answer in sample.turns if "\nA. " in text]
        choices = [[line[3:] for line in text.split("\n")[1:]] for text, _ in asked]
        texts = pack([[chat.turn(text, options) for (text, _), options in zip(asked, choices, strict=True)]])
        prefix = word_prefix(lm, tokenizer, [sample], rng, most_fog=0.0)
        if not with_context:
            prefix = Prefix(*(part[:, :0] for part in prefix[:3]), span=torch.zeros(1, dtype=torch.long))
        log_probs = answer_log_probs(lm, chat.head, prefix, texts)
        scores = torch.zeros(int(texts.answer.max()) + 1)
        scores = iter(scores.scatter_add(0, texts.answer.clamp(min=0).flatten(), log_probs.flatten()).tolist())
        for (text, answer), options in zip(asked, choices, strict=True):
            said = options[int(np.argmax([next(scores) for _ in options]))]
            kind = re.sub(r"^(Is|Which subtype is the) \S+", r"\1 ...", text.split("\n")[0])
            rows.append({"question": kind, "right": said == answer, "chance": 1 / len(options)})
    table = pd.DataFrame(rows).groupby("question")
    return table.agg(questions=("right", "size"), accuracy=("right", "mean"), chance=("chance", "mean")).reset_index()
