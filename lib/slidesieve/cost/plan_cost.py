"""What a stage will cost, in closed form and before it runs.

Tokens are those that go through the language model: the head of the user's turn, visual tokens and text, padding left
out. A method that carries all tiles in training (SparseLearn, all) is counted with all of them. A validation reads its
sample's slides once and each item's text behind them, twice where there is a scorer: hard and soft. Stage 60 reads
likewise, and once more from other slides; what it reads stands under validation tokens, as do open answers, each as
long as it may be, word by word behind a prefix of its own. Stage 30 has no language model: its tokens are tiles. Totals
over a sample of items stand for all; an early end is not foreseen.

Operations (multiplications and additions of matrix products, `cost.flops`): what learns passes three times (outputs,
gradients of inputs and of weights), what only passes gradients on twice, recomputed blocks once more.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from slidesieve.cost import flops
from slidesieve.cost.methods import passed_back
from slidesieve.cost.plan_memory import (
    decoding_bytes,
    decoding_load,
    reading_bytes,
    reading_load,
    training_bytes,
    training_load,
)
from slidesieve.cost.plan_sizes import (
    LanguageModel,
    Model,
    language_model,
    model_of,
    passes,
    rates_of,
    seen_tokens,
    sizes_at,
)
from slidesieve.cost.plan_work import Data, Item, Work
from slidesieve.models.token_budget import MOST_TEXT
from slidesieve.training.feed import batches

STAND_IN = "Qwen/Qwen2.5-7B-Instruct"  # tokens are the same, whoever reads them
PARAMETER_BYTES = 4  # of what learns
ON_DISK_BYTES = 2 * (12 + 4)  # the last two checkpoints: it with its moments, and the best so far


class Cost(NamedTuple):
    """What one stage will cost; None where it is not known, or means nothing."""

    optimiser_steps: int | None = None
    training_tokens: int | None = None
    validation_tokens: int | None = None
    checkpoint_bytes: int | None = None
    peak_bytes: int | None = None
    operations: int | None = None
    learnt_bytes: int | None = None
    largest_batch: int | None = None  # tokens of the largest batch, or part of one, padding included
    assumed: tuple[str, ...] = ()


class Phase(NamedTuple):
    """So many batches of `batch` of these items."""

    work: Work
    batches: int
    batch: int


def stage_cost(kind: str, values: Mapping[str, object], data: Data, lm: LanguageModel | None) -> Cost:
    """The cost of a stage of notebook `kind` ("40", "50", "60")."""
    if lm is None:
        some = stage_cost(kind, values, data, language_model(STAND_IN))
        unknown = dict.fromkeys(("checkpoint_bytes", "peak_bytes", "operations", "learnt_bytes"))
        return some._replace(**unknown, assumed=(*data.assumed, f"nothing of {values['lm']}, which is not here"))
    model = model_of(values, lm, d=data.d, rates={} if kind == "60" else rates_of(kind, values))
    if kind == "60":
        return _answering(model, values, data)
    fed, steps = phases(kind, values, data), steps_of(kind, values, data)
    cap, held = int(values["max_tiles"]), data.work["validation"]
    seen = min(int(values["validation_items"]) or held.n, held.n)
    times = min(int(values["evaluations"]), steps)
    loads = [training_load(phase.work, phase.batch, values, data.head) for phase in fed if phase.batches]
    loads_read = [reading_load(held, values, data.head)] if seen else []
    moments = 8 * model.learnt
    each = {phase: phase.batches * phase.batch for phase in fed}
    reading = {"head": data.head, "cap": cap, "passes": passes(model)}
    tokens, operations = (
        sum(n * mean(phase.work, partial(of_item, model, head=data.head, cap=cap)) for phase, n in each.items())
        for of_item in (trained_tokens, partial(step_operations, recompute=bool(values["gradient_checkpointing"])))
    )
    return Cost(
        steps,
        round(tokens),
        times * read_tokens(model, held, seen, **reading),
        model.learnt * ON_DISK_BYTES,
        max(
            *(training_bytes(model, load, values) for load in loads),
            *(reading_bytes(model, load, values, training=moments) for load in loads_read), 0, 0,
        ),
        round(operations) + times * read_operations(model, held, seen, **reading),
        model.learnt * PARAMETER_BYTES,
        max((load.slides * (load.n + load.text) for load in (*loads, *loads_read)), default=0),
        data.assumed,
    )  # fmt: skip


def phases(kind: str, values: Mapping[str, object], data: Data) -> list[Phase]:
    """What is trained on, in order, as notebooks 40 and 50 do."""
    alignment = kind == "40" and values["compressor"] == "all"
    count = batches(
        range(data.work["train"].n), batch=int(values["batch"]), epochs=float(values["epochs"]),
        steps=int(values["whole_steps" if alignment else "steps"]), accumulate=int(values["accumulate"]),
    )  # fmt: skip
    own = [Phase(data.work["train"], count, int(values["batch"]))]
    regions = data.work.get("regions")
    if regions and regions.n:
        own = [Phase(regions, int(values["region_steps"]), int(values["region_batch"])), *own]
    return [phase for phase in own if phase.work.n]


def steps_of(kind: str, values: Mapping[str, object], data: Data) -> int | None:
    if kind == "60":
        return None
    return math.ceil(sum(phase.batches for phase in phases(kind, values, data)) / int(values["accumulate"]))


def trained_tokens(model: Model, item: Item, *, head: int, cap: int) -> int:
    return seen_tokens(model, item, cap=cap, soft=True) + head + item.text


def read_tokens(model: Model, work: Work, items: int, *, head: int, cap: int, passes: Sequence[bool]) -> int:
    """Tokens of reading so many items of a split, once for each of `passes` (whether as in training)."""
    if not items:
        return 0
    slides, text, chunks = grouped(work, items)
    before = sum(head + mean(work, partial(seen_tokens, model, cap=cap, soft=soft)) for soft in passes)
    return round(slides * chunks * before + len(passes) * items * text)


def grouped(work: Work, items: int) -> tuple[int, float, int]:
    """Slides of a sample of items (as many as there can be: patients take turns), an item's text, chunks a slide."""
    slides, text = min(items, work.slides), mean(work, lambda item: item.text)
    return slides, text, max(1, math.ceil(items / slides * text / MOST_TEXT))


def step_operations(model: Model, item: Item, *, head: int, cap: int, recompute: bool) -> int:
    """Both passes over one item of a training batch; `recompute`: the decoder's blocks, in the second one."""
    lm, sizes = model.lm.decoder, sizes_at(model, item, head, cap)
    parts = flops.forward(model.method, lm, sizes, training=True)
    grows, total, again = False, 0, int(recompute)
    inside = not model.method.carried_by.is_prefix
    for part, own in parts.items():
        learns = _learns(model, part)
        if part != "language model":
            within = again if part not in PARTS and inside else 0  # the blocks that are recomputed hold the adapters
            total += own.total * ((3 if learns else 2 if grows else 1) + within)
        grows = grows or learns
    passed = parts["language model"]
    back = 1.0 if "lm" in model.learns else passed_back(model.method, lm, sizes) if grows else 0.0
    tokens = trained_tokens(model, item, head=head, cap=cap)
    adapters = 2 * model.lora_rank * model.lm.lora_sides * tokens * ((3 if "lm" in model.learns else 1) + again)
    last = 0 if "lm" in model.learns else lm.layers * lm.width * lm.ffn / lm.weights  # recomputing stops before it
    total += passed.linear * (1 + back + again * (1 - last)) + passed.attention * (1 + 2 * back + again) + adapters
    return round(total + (1 + (back > 0)) * flops.lm_head(lm, item.predicted).total)


def read_operations(model: Model, work: Work, items: int, *, head: int, cap: int, passes: Sequence[bool]) -> int:
    """Passes without gradients over so many items of a split."""
    if not items:
        return 0
    slides, text, chunks = grouped(work, items)
    lm, together = model.lm.decoder, round(items / slides * text / chunks)

    def of_slide(item: Item, *, soft: bool) -> int:
        parts = flops.forward(model.method, lm, sizes_at(model, item, head, cap), training=soft)
        before = head + seen_tokens(model, item, cap=cap, soft=soft)
        chain = items == slides and item.answers == 1
        read = [parts["language model"]] if chain else [flops.decoder(lm, before), flops.behind(lm, together, before)]
        adapted = 2 * model.lora_rank * model.lm.lora_sides * (before + together)
        ours = sum(own.total for part, own in parts.items() if part != "language model")
        return ours + sum(own.total for own in read) + adapted

    each = sum(mean(work, partial(of_slide, soft=soft)) for soft in passes)
    said = len(passes) * items * mean(work, lambda item: flops.lm_head(lm, item.predicted).total)
    return round(slides * chunks * each + said)


def mean(work: Work, what: Callable[[Item], float]) -> float:
    return sum(map(what, work.sample)) / max(len(work.sample), 1)


def decoded_tokens(model: Model, work: Work, *, head: int, cap: int) -> int:
    """Tokens of answering open questions: each with its own prefix and prompt, its last word unread."""
    return round(work.n * mean(work, lambda item: seen_tokens(model, item, cap=cap, soft=False) + head + item.text - 1))


def decoded_operations(model: Model, work: Work, *, head: int, cap: int) -> int:
    """Greedy answers to all open questions, the compressor once a slide, all else once a question."""
    lm, of_slide = model.lm.decoder, ("slide encoder", "compressor")

    def of_item(item: Item, *, shared: bool) -> int:
        read = item._replace(text=item.text - 1)  # the last word is not read
        parts = flops.forward(model.method, lm, sizes_at(model, read, head, cap))
        if shared:
            return sum(parts[part].total for part in of_slide if part in parts)
        own = sum(cost.total for part, cost in parts.items() if part not in (*of_slide, "language model"))
        before = seen_tokens(model, item, cap=cap, soft=False) + head + item.text - item.predicted
        words = flops.one_by_one(lm, item.predicted - 1, before).total + flops.lm_head(lm, item.predicted).total
        adapted = 2 * model.lora_rank * model.lm.lora_sides * (before + item.predicted - 1)
        return own + flops.decoder(lm, before).total + words + adapted

    once, each = (mean(work, partial(of_item, shared=shared)) for shared in (True, False))
    return round(work.slides * once + work.n * each)


def _answering(model: Model, values: Mapping[str, object], data: Data) -> Cost:
    asked, opened, cap = data.work["test"], data.work.get("open"), int(values["max_tiles"])
    tokens, peaks, operations, largest = 0, [], 0, []
    if asked.n:
        read = {"head": data.head, "cap": cap, "passes": passes(model, wrong_slide=bool(values["wrong_slide"]))}
        load = reading_load(asked, values, data.head)
        tokens, operations = read_tokens(model, asked, asked.n, **read), read_operations(model, asked, asked.n, **read)
        peaks, largest = [reading_bytes(model, load, values)], [load]
    if opened and opened.n:
        load = decoding_load(opened, values, data.head)
        tokens += decoded_tokens(model, opened, head=data.head, cap=cap)
        operations += decoded_operations(model, opened, head=data.head, cap=cap)
        peaks, largest = [*peaks, decoding_bytes(model, load, values)], [*largest, load]
    if not largest:
        return Cost(assumed=("no questions of this split",))
    return Cost(
        validation_tokens=tokens,
        peak_bytes=max(peaks),
        operations=operations,
        largest_batch=max(load.slides * (load.n + load.text) for load in largest),
        assumed=data.assumed,
    )


def _learns(model: Model, part: str) -> bool:
    """Whether a part of `flops.forward` learns; what is none of PARTS is the fusion."""
    return PARTS[part] in model.learns if part in PARTS else bool(model.learns.keys() - PARTS.values())


PARTS = {"slide encoder": "slide_encoder", "compressor": "compressor", "language model": "lm"}
