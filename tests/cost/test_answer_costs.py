"""Operations of an answer, against PyTorch's counter on the model that notebook 60 loads."""

import numpy as np
import pytest
import torch
from test_flops import counted
from tiny_vlm import OPTIONS, D, K

from slidesieve.answers.decoding import greedy
from slidesieve.cost import flops
from slidesieve.cost.answer_costs import decoder_of, mean_cost, method_of, n_windows
from slidesieve.cost.methods import METHODS
from slidesieve.datasets.questions import Question, prompt
from slidesieve.features.bag import collate, make_bag
from slidesieve.models.chat import pack
from slidesieve.models.checkpoints import build_vlm
from slidesieve.models.cross_attention import LatentReader

BAGS = {
    name: make_bag(name, np.random.default_rng(n).standard_normal((n, D)), 64 * np.argwhere(np.ones((n // 5, 5))), {})
    for name, n in (("a", 45), ("b", 20))
}
ASKED = [
    Question("q1", "a", "x", "x", "Which finding is present?", ("abscess", "cyst"), 0),
    Question("q2", "b", "x", "x", "Is it?", ("yes", "no"), 0),
    Question("q3", "b", "x", "x", "What is the grade of this?", ("yes", "no"), 0),
    Question("q4", "no features", "x", "x", "Is it?", ("yes", "no"), 0),
]


def build(folder: str, compressor: str, **other):
    options = OPTIONS.get(compressor, {})
    return build_vlm(folder, compressor, d=D, k=K, seed=1, options=options, projector_width=19, **other).eval()


@torch.no_grad()
def counted_answer(model, question) -> int:
    """What the counter sees of a prompt's pass, without the head's row and the mean of the question's embeddings."""
    turn = model.chat.turn(prompt(question), [])
    texts = pack([[turn]])

    def first_token():
        prefix = model.prefix(model.compress(collate([BAGS[question.slide_id]])), texts)
        greedy(model.lm, model.chat.head, prefix, [turn.prompt], stops=set(), most=1)

    asked = 2 * len(turn.prompt) * decoder_of(model).width if isinstance(model.fusion, LatentReader) else 0
    return counted(first_token) - flops.lm_head(decoder_of(model)).total - asked


@pytest.mark.parametrize("compressor", ["all", "random", "mean", "text_only", "sparselearn", "tcssa", "locpath"])
def test_costs_are_means_of_what_the_counter_sees(lm_folder, compressor):
    model = build(lm_folder, compressor).requires_grad_(False)
    cost = mean_cost(model, ASKED, BAGS)
    assert cost.tflops * 1e12 == pytest.approx(np.mean([counted_answer(model, q) for q in ASKED[:3]]), rel=1e-12)
    assert cost.n_tiles == pytest.approx((45 + 20 + 20) / 3)
    tokens = {"all": (45 + 20 + 20) / 3, "text_only": 0, "locpath": 0}.get(compressor, K)
    assert cost.visual_tokens == pytest.approx(tokens)
    assert 0 < cost.tflops_attention < cost.tflops


def test_a_slide_encoder_is_part_of_the_cost(lm_folder):
    plain = mean_cost(build(lm_folder, "all"), ASKED, BAGS)
    D8 = 40  # LongNet's heads divide it
    bags = {n: b._replace(x=np.pad(b.x, [(0, 0), (0, D8 - D)])) for n, b in BAGS.items()}
    made = build_vlm(lm_folder, "all", d=D8, k=K, seed=1, options={}, projector_width=19, slide_encoder="longnet")
    assert method_of(made) == METHODS["slidechat"]
    more = mean_cost(made, ASKED, bags).tflops - plain.tflops
    encoder = np.mean([flops.longnet(D8, n).total for n in (45, 20, 20)])
    wider = np.mean([2 * n * (D8 - D) * 19 for n in (45, 20, 20)])  # the projector's first map
    assert more * 1e12 == pytest.approx(encoder + wider)


def test_windows_are_the_mergers(lm_folder):
    model = build(lm_folder, "locpath")
    assert n_windows(model, BAGS["a"]) == 5 * 3 and n_windows(model, BAGS["b"]) == 2 * 3


def test_without_answers_there_is_no_cost(lm_folder):
    assert np.isnan(mean_cost(build(lm_folder, "random"), ASKED[3:], BAGS)).all()
