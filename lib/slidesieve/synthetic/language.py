"""The toy's own language model: a tiny Llama that learns, from words alone, to answer questions about a bag of words.

It never sees a feature. What it brings is what any language model brings to a vision-language model: it knows the
question format, and how to answer once the evidence is in front of it as embeddings of words. Positions in front of a
question have gaps, since kept tiles keep their places in the bag; a part of the questions uses words from pathology at
large, so that the model copies words it was given rather than reciting the toy's classes.
"""

from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from slidesieve.datasets.questions import Question, prompt
from slidesieve.synthetic.classes import DECOYS, FINDINGS, GRADES, TISSUES

TEMPLATE = (
    "{% for m in messages %}<user> {{ m.content }} {% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)
QUESTION_WORDS = "Which finding is present? Is What the grade? tissue dominates? Describe region. slide. tumour"
ANSWER_WORDS = "A. B. C. D. A B C D yes no none tissue: finding: grade: also: ."
# TCGA study abbreviations and OncoTree codes: names that label tables of real cohorts use.
CODES = (
    "ACC BLCA BRCA CESC CHOL COAD COADREAD DLBC ESCA GBM HNSC KICH KIRC KIRP LAML LGG LIHC LUAD LUSC MESO OV PAAD PCPG "
    "PRAD READ SARC SKCM STAD TGCT THCA THYM UCEC UCS UVM CCRCC PRCC CHRCC IDC ILC LUNG KIDNEY normal tumor benign "
    "malignant positive negative low-risk high-risk"
)


class Sample(NamedTuple):
    """A context of words and what is asked about it."""

    words: list[str]
    turns: list[tuple[str, str]]  # (prompt, answer)


def build_tokenizer(more: str = "") -> PreTrainedTokenizerFast:
    """One token a word; unknown words fall apart into characters rather than into one common unknown.

    `more` words of the vocabulary come last, so that without any the others are what they are.
    """
    special = ["<pad>", "<unk>", "<end>", "<user>", "<assistant>"]
    letters = [chr(c) for c in range(33, 127)]
    names = [*TISSUES, *FINDINGS, *GRADES, *DECOYS]
    words = [*QUESTION_WORDS.split(), *ANSWER_WORDS.split(), *names, *CODES.split()]
    pieces = list(dict.fromkeys([*special, *words, *letters, *(f"##{c}" for c in letters), *more.split()]))
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"],
        chat_template=TEMPLATE,
    )


def build_lm(tokenizer, *, width: int, layers: int, heads: int, seed: int) -> LlamaForCausalLM:
    """A Llama of toy size with fresh weights (a folder of type qwen2 would get Qwen's own tokenizer forced on it)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=heads,
                tie_word_embeddings=True,
                max_position_embeddings=4096,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )


def draw_sample(rng: np.random.Generator) -> Sample:
    """Draw a context of 6 to 32 words and its questions: toy slides and regions, or names from real label tables."""
    return _code_sample(rng) if rng.random() < 0.2 else _toy_sample(rng)


def _toy_sample(rng: np.random.Generator) -> Sample:
    size = int(rng.integers(6, 33))
    tissue = rng.permutation(TISSUES)[: rng.integers(1, 5)]
    finding = str(rng.choice(FINDINGS)) if rng.random() < 0.8 else "none"
    grade = str(rng.choice(GRADES)) if rng.random() < 0.8 else "none"
    decoys = [d for d in DECOYS if d in rng.choice(DECOYS, size=rng.integers(0, min(13, size - 2)), replace=False)]
    planted = [w for w in (finding, grade) if w != "none" for _ in range(rng.integers(1, 4))]
    rest = max(size - len(planted) - len(decoys), 1)
    main = int(np.ceil(rest * rng.uniform(0.5, 1.0))) if len(tissue) > 1 else rest
    background = (
        [str(tissue[0])] * main + [str(t) for t in rng.choice(tissue[1:], rest - main)]
        if rest > main
        else ([str(tissue[0])] * rest)
    )
    words = [*planted, *decoys, *background]
    body = f"tissue: {tissue[0]} . finding: {finding} . grade: {grade} ."
    turns = [("Describe the slide.", body), ("Describe the region.", f"{body} also: {' '.join(decoys) or 'none'} .")]
    told = [_which(rng, "Which tissue dominates?", TISSUES, str(tissue[0]))]
    if finding != "none":
        told.append(_which(rng, "Which finding is present?", FINDINGS, finding))
        told += [_presence(rng, finding, yes) for yes in (True, False)]
    if grade != "none":
        told.append(_which(rng, "What is the grade?", GRADES, grade))
    return Sample([str(w) for w in rng.permutation(words)], [turns[rng.integers(2)], *told])


def _code_sample(rng: np.random.Generator) -> Sample:
    answer, *others = (str(w) for w in rng.choice(CODES.split(), size=int(rng.integers(2, 5)), replace=False))
    noise = [str(w) for w in rng.choice([*TISSUES, *DECOYS], size=int(rng.integers(0, 12)))]
    words = [answer] * int(rng.integers(2, 20)) + noise
    return Sample([str(w) for w in rng.permutation(words)], [asked(rng, "Which tumour is present?", answer, others)])


def _which(rng: np.random.Generator, text: str, names: tuple[str, ...], answer: str) -> tuple[str, str]:
    others = rng.choice([name for name in names if name != answer], size=3, replace=False)
    return asked(rng, text, answer, [str(name) for name in others])


def _presence(rng: np.random.Generator, finding: str, yes: bool) -> tuple[str, str]:
    named = finding if yes else str(rng.choice([f for f in FINDINGS if f != finding]))
    return asked(rng, f"Is {named} present?", *(("yes", ["no"]) if yes else ("no", ["yes"])))


def asked(rng: np.random.Generator, text: str, answer: str, others: list[str]) -> tuple[str, str]:
    """A question with its options in random order, and the right one."""
    options = tuple(str(option) for option in rng.permutation([answer, *others]))
    return prompt(Question("", "", "", "", text, options, options.index(answer))), answer
