"""What a training is judged by on its validation slides: right answers, likely answers, and how soft selection is."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from slidesieve.answers.answering import answer, by_slide, generator_of, n_right
from slidesieve.answers.select import slide_batches
from slidesieve.answers.sums import Asked, answer_sums, evaluating
from slidesieve.compressors.topk import mass_on_topk
from slidesieve.datasets.examples import Example, bag_of
from slidesieve.datasets.questions import Question
from slidesieve.features.bag import Bag, collate
from slidesieve.features.bag_files import BagView, n_tiles
from slidesieve.models.vlm import VLM
from slidesieve.training.shares import Share


def answer_accuracy(
    model: VLM,
    questions: Sequence[Question],
    bags: Mapping[str, Bag],
    *,
    answer_form: str,
    batch_tokens: int,
    seed: int | None = None,
    share: Share = Share(),
) -> float:
    """Share of questions answered rightly on the evaluation path; with `seed`, on the training path.

    Processes divide the slides. Nan if questions were asked and not one had finite scores.
    """
    own = by_slide([q for q in questions if q.slide_id in bags], bags)
    mine = [q for slide in share.of(list(own)) for q in own[slide]]
    answers = answer(model, mine, bags, answer_form=answer_form, batch_tokens=batch_tokens, seed=seed)
    right, answered, asked = share.total(n_right(answers, mine), int(answers["predicted"].notna().sum()), len(mine))
    return float("nan") if asked and not answered else right / max(len(questions), 1)


def answer_probability(
    model: VLM,
    examples: Sequence[Example],
    bags: Mapping[str, Bag],
    *,
    max_tiles: int,
    batch_tokens: int,
    seed: int | None = None,
    share: Share = Share(),
) -> float:
    """Geometric mean probability of the reference answers' tokens on the evaluation path; with `seed`, in training.

    Bags are those of a training with this `max_tiles`. All examples about a slide or a box share its prefix; processes
    divide the slides.
    """
    about: dict[tuple, list[Example]] = {}
    for example in examples:
        about.setdefault((min(n_tiles(bags, example.slide_id), max_tiles), *example[:2]), []).append(example)
    asked = [
        Asked(
            [model.chat.turn(p, [a]) for example in own for p, a in example.turns],
            n,
            partial(bag_of, own[0], bags, max_tiles),
        )
        for (n, *_), own in sorted(about.items(), key=lambda item: item[0][:2])
    ]
    mine = share.of(asked)
    with evaluating(model, soft=seed is not None):
        sums = answer_sums(model, mine, batch_tokens=batch_tokens, generator=generator_of(model, seed))
    total = sum(score for slide in sums for turn in slide for score in turn)
    total, count = share.total(total, sum(len(a) for one in mine for turn in one.turns for a in turn.answers))
    return float(np.exp(total / max(count, 1)))


def soft_watch(
    model: VLM,
    bags: Mapping[str, Bag],
    evaluate: Callable[..., float],
    *,
    seed: int,
    batch_tokens: int,
    share: Share = Share(),
) -> dict[str, float]:
    """What a selector's validation score stands beside: the training path's score, and how soft its selection is.

    `evaluate(model, seed=..., share=...)` gives `soft_score`; `mass` is the mean over these slides of the soft top-k's
    mass on the hard one, at the present temperature `tau`. A method that scores no tiles has nan in all three.
    """
    compressor, masses = model.compressor, []
    if not (hasattr(compressor, "scores") and hasattr(compressor, "tau")):
        return dict.fromkeys(("soft_score", "mass", "tau"), float("nan"))
    tau = float(compressor.tau)
    mine = BagView(bags, share.of(sorted(bags, key=lambda s: n_tiles(bags, s))))
    with torch.no_grad(), evaluating(model, soft=False):
        for slides in slide_batches(mine, batch_tokens):
            batch = collate([mine[s] for s in slides]).to(model.feature_mean.device)
            scores = model.compress(batch).scores
            masses += mass_on_topk(scores, k=compressor.k, tau=tau, mask=batch.mask).tolist()
    mass, slides = share.total(sum(masses), len(masses))
    soft_score = evaluate(model, seed=seed, share=share)
    return {"soft_score": soft_score, "mass": mass / slides if slides else float("nan"), "tau": tau}
