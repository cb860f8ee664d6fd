"""Which families of language models can stand behind visual tokens: each beside a plain forward pass of itself.

`python -m benchmarks.decoders --out DIR` makes a tiny random model of each family, and a tokenizer of its class. Its
options' log-likelihoods in every way of `models.prefix_lm` (chain, shared, packed, greedy; latents where adapters can
read them), behind prefixes shorter and longer than a sliding window, are held against one plain sequence for each
answer through the untouched model, under its own masks and without a cache, in float32. Verdicts: right (to 1e-4),
refused (by `language_model.examine`, with its line), wrong. Writes `decoders.csv`.
"""

import csv
import inspect
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from benchmarks.decoder_families import FAMILIES, WINDOW, make_family
from slidesieve.answers.decoding import greedy
from slidesieve.models.chat import ChatFormat, Turn, pack
from slidesieve.models.cross_attention import LatentReader
from slidesieve.models.language_model import examine, load_lm
from slidesieve.models.prefix_lm import Prefix, answer_log_probs

TOLERANCE = 1e-4
LENGTHS = ((3, 5), (WINDOW + 13, WINDOW + 2))  # visual tokens of two slides, shorter and longer than the window
ASKED = (
    ("Which finding is present?\nA. necrosis\nB. none", ("A", "necrosis")),
    ("What is the grade?", ("low", "high")),
)
COLUMNS = ("family", "ways", "largest_difference", "verdict", "why")
WIDTH = 16  # of latents


class Row(NamedTuple):
    """A line of decoders.csv."""

    family: str
    ways: str
    largest_difference: float | None
    verdict: str
    why: str


def judge(name: str, folder: Path) -> Row:
    """Hold one family's ways against the plain forward pass."""
    make_family(name, folder)
    try:
        facts = examine(str(folder))
        lm, tokenizer = load_lm(str(folder))
    except ValueError as error:
        return Row(name, "", None, "refused", str(error).replace(f"{folder}", "DIR"))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    chat, lm = ChatFormat(tokenizer), lm.eval()
    found = differences(lm, plain, chat)
    if facts.reads_latents:
        found["latents"] = latent_difference(lm, chat)
    largest = max(found.values())
    wrong = [way for way, value in found.items() if not value <= TOLERANCE]
    why = "wrong: " + ", ".join(wrong) if wrong else "" if facts.reads_latents else "latents refused"
    return Row(name, "+".join(found), largest, "wrong" if wrong else "right", why)


@torch.no_grad()
def differences(lm: nn.Module, plain: nn.Module, chat: ChatFormat) -> dict[str, float]:
    """The largest difference of an option's log-likelihood, by way, over short and long prefixes."""
    found = dict.fromkeys(("chain", "shared", "packed", "greedy"), 0.0)
    turns = [chat.turn(text, answers) for text, answers in ASKED]
    for seed, lengths in enumerate(LENGTHS):
        prefix = visual(lengths, lm.get_input_embeddings().embedding_dim, seed=seed)
        expected = [
            [[one(plain, chat, prefix, i, t, a) for a in t.answers] for t in turns] for i in range(len(lengths))
        ]
        for j, turn in enumerate(turns):  # every answer alone is a chain
            for n, answer in enumerate(turn.answers):
                texts = pack([[Turn(turn.prompt, [answer])]] * len(lengths))
                got = answer_log_probs(lm, chat.head, prefix, texts).sum(1)
                gap = max(abs(float(got[i] - expected[i][j][n])) for i in range(len(lengths)))
                found["chain"] = max(found["chain"], gap)
        texts = pack([turns, turns[:1]])
        flat = [value for turn in expected[0] for value in turn] + expected[1][0]
        for way in ("shared", "packed"):
            with torch.set_grad_enabled(way == "packed"):
                got = per_answer(answer_log_probs(lm, chat.head, prefix, texts), texts.answer)
            gap = max(abs(float(a) - float(b)) for a, b in zip(got, flat, strict=True))
            found[way] = max(found[way], gap)
        found["greedy"] = max(found["greedy"], greedy_difference(lm, plain, chat, prefix, turns))
    return found


def one(plain: nn.Module, chat: ChatFormat, prefix: Prefix, row: int, turn: Turn, answer: list[int]) -> Tensor:
    """Log-likelihood of one answer in one plain sequence, under the model's own causal mask."""
    logits = sequence_logits(plain, chat, prefix, row, [*turn.prompt, *answer])
    return logits[-len(answer) - 1 : -1].log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()


def sequence_logits(plain: nn.Module, chat: ChatFormat, prefix: Prefix, row: int, text: list[int]) -> Tensor:
    real, h, span = prefix.mask[row], len(chat.head), int(prefix.span[row])
    embed = plain.get_input_embeddings()
    words = embed(torch.tensor([*chat.head, *text]))
    embeds = torch.cat([words[:h], prefix.embeds[row, real], words[h:]])[None]
    places = [*range(h), *(h + prefix.positions[row, real]).tolist(), *(h + span + i for i in range(len(text)))]
    mask = torch.ones(1, len(places), dtype=torch.long)
    given = {"inputs_embeds": embeds, "attention_mask": mask, "use_cache": False, "logits_to_keep": len(text) + 1}
    return (
        plain(**given, **({"position_ids": torch.tensor([places])} if _takes_positions(plain) else {}))
        .logits[0]
        .float()
    )


def greedy_difference(lm: nn.Module, plain: nn.Module, chat: ChatFormat, prefix: Prefix, turns: list[Turn]) -> float:
    """By how much a token said by greedy decoding is less likely than the likeliest, by the plain forward pass.

    Two slides are asked together, each something else; the shorter is padded.
    """
    prompts, gap = [turn.prompt for turn in turns], 0.0
    for row, said in enumerate(greedy(lm, chat.head, prefix, prompts, stops=set(), most=5)):
        for n, token in enumerate(said):
            logits = sequence_logits(plain, chat, prefix, row, [*prompts[row], *said[:n]])[-1]
            gap = max(gap, float(logits.max() - logits[token]))
    return gap


@torch.no_grad()
def latent_difference(lm: nn.Module, chat: ChatFormat) -> float:
    """The same for latents read by adapters: several questions at once beside one plain sequence each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = LatentReader(lm, WIDTH, 3, n_adapters=2, adapter_width=16, adapter_heads=2, adapter_gate=1.0).eval()
        reader, latents = reader.to(lm.dtype), torch.randn(2, 7, WIDTH).to(lm.dtype)
    reader.attach(lm)
    turns = [chat.turn(text, answers) for text, answers in ASKED]
    texts, gap = pack([turns, turns]), 0.0
    none = torch.zeros(2, 0, dtype=torch.long)
    empty = Prefix(
        torch.zeros(2, 0, lm.get_input_embeddings().embedding_dim), none.bool(), none, none.sum(1), reader.place
    )
    reader.read(lm, latents, texts)
    got = per_answer(answer_log_probs(lm, chat.head, empty, texts), texts.answer)
    expected = []
    for row in range(2):
        for turn in turns:
            for answer in turn.answers:
                reader.read(lm, latents[row : row + 1], pack([[turn]]))
                text = [*turn.prompt, *answer]
                reader.place(torch.tensor([[-1] * len(chat.head) + [0] * len(text)]))
                expected.append(one(lm, chat, Prefix(*(part[:1] for part in empty[:4])), 0, turn, answer))
    for a, b in zip(got, expected, strict=True):
        gap = max(gap, abs(float(a) - float(b)))
    return gap


def per_answer(log_probs: Tensor, answer: Tensor) -> list[float]:
    """The sum of each answer's tokens, in the order of the answers."""
    return [float(log_probs[answer == n].detach().sum()) for n in range(int(answer.max()) + 1)]


def visual(lengths: tuple[int, ...], width: int, *, seed: int) -> Prefix:
    """Visual tokens of several slides, padding among them, their positions with gaps."""
    g = torch.Generator().manual_seed(seed)
    b, m = len(lengths), max(lengths) + 2
    mask, positions = torch.zeros(b, m, dtype=torch.bool), torch.zeros(b, m, dtype=torch.long)
    for i, n in enumerate(lengths):
        places = torch.randperm(m, generator=g)[:n].sort().values
        mask[i, places] = True
        positions[i, places] = torch.randperm(3 * m, generator=g)[:n].sort().values
    return Prefix(0.5 * torch.randn(b, m, width, generator=g), mask, positions, torch.full((b,), 3 * m))


def _takes_positions(plain: nn.Module) -> bool:
    return "position_ids" in inspect.signature(plain.forward).parameters


def main(
    out: Annotated[Path, typer.Option(help="folder for decoders.csv")],
    families: Annotated[str, typer.Option(help="comma-separated; empty: all")] = "",
) -> None:
    """Judge every family and write decoders.csv; exit 1 if one is wrong."""
    set_verbosity_error()
    disable_progress_bar()
    torch.set_num_threads(1)
    rows = []
    for name in families.split(",") if families else FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(judge(name, Path(folder)))
        print("  ".join(str(value) for value in rows[-1]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "decoders.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    counts = Counter(row.verdict for row in rows)
    print(f"{counts['right']} right, {counts['refused']} refused, {counts['wrong']} wrong: {out / 'decoders.csv'}")
    raise typer.Exit(1 if counts["wrong"] else 0)


if __name__ == "__main__":
    typer.run(main)
