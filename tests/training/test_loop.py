"""Training: a killed run that resumes is the uninterrupted run bit for bit; batches, rates, masks and kept weights."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from doubles import compute_in_float64, take_float64

from slidesieve.datasets.examples import Example
from slidesieve.features.bag import collate, make_bag
from slidesieve.models.checkpoints import build_vlm
from slidesieve.models.token_budget import chunks
from slidesieve.synthetic.language import build_lm, build_tokenizer
from slidesieve.training.loop import AnswerLoss, Feed, Phase, Settings, cooling, fit, parameter_groups

D, K = 33, 7
STEPS = (5, 6)  # two phases
WORDS = ("abscess", "necrosis", "yes", "no", "A B", "benign")


@pytest.fixture(scope="module")
def lm_folder(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("lm"), build_tokenizer()
    build_lm(tokenizer, width=24, layers=2, heads=3, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def bags() -> dict:
    rng = np.random.default_rng(0)
    made = {}
    for i, n in enumerate((9, 23, 41, 12, 30)):
        coords = np.stack([np.arange(n) % 5, np.arange(n) // 5], 1) * 64
        made[f"s{i}"] = make_bag(f"s{i}", rng.standard_normal((n, D)), coords, {})
    return made


def model_and_feed(lm_folder: str, *, steps: tuple[int, int] = STEPS, max_tiles: int = 29, dtype: str = "auto"):
    """SparseLearn with LoRA, dropout on, and two phases: boxes with captions, then slides with questions."""
    options = {"scorer_heads": 3, "scorer_width": 12}
    sizes = {"d": D, "k": K, "projector_width": 19}
    model = build_vlm(lm_folder, "sparselearn", **sizes, seed=1, options=options, dtype=dtype)
    model.fit_features(collate(list(bags().values())))
    model.add_lora(rank=2, alpha=4, dropout=0.3)
    captions = [Example(f"s{i}", (0, 0, 320, 128), (("Describe region.", WORDS[i]),)) for i in range(5)]
    questions = [Example(f"s{i}", None, (("Is What", WORDS[i]), ("grade?", WORDS[5 - i]))) for i in range(5)]
    phases = (Phase(captions, steps[0], 3), Phase(questions, steps[1], 2))
    return model, Feed(model, bags(), phases, seed=4, max_tiles=max_tiles)


def test_every_step_draws_its_own_noise_and_a_second_run_the_same(lm_folder, tmp_path, monkeypatch):
    def drawn(folder) -> list[float]:
        model, feed = model_and_feed(lm_folder)
        noise, forward = [], type(model).forward

        def listening(self, batch, texts, generator=None):
            noise.append(torch.rand((), generator=generator.clone_state()).item())
            return forward(self, batch, texts, generator)

        monkeypatch.setattr(type(model), "forward", listening)
        fit(
            model, AnswerLoss(feed), Settings({"compressor": 1e-2}, 0.0, 0, 1.0), seed=8, checkpoint=folder / "c.pt",
            save_minutes=99, evaluate=lambda model, share: 0.0, evaluations=1,
        )  # fmt: skip
        monkeypatch.undo()
        return noise

    once, again = drawn(tmp_path / "one"), drawn(tmp_path / "two")
    assert len(set(once)) == len(once) == sum(STEPS) and once == again


def kill_at(when: int | None, how=None):
    """Anneal tau, and end the run just before step `when`."""

    def before_step(model, step):
        model.compressor.tau.fill_(1 / (1 + step))
        if step == when:
            how()

    return before_step


def train(lm_folder, checkpoint, *, when: int | None = None, how=None, accumulate: int = 1):
    model, feed = model_and_feed(lm_folder)

    def evaluate(model, share):  # best after step 6, so that late kills must find the best weights in the checkpoint
        assert not model.training
        return -abs(1 / float(model.compressor.tau) - 6)

    table = fit(
        model,
        AnswerLoss(feed),
        Settings({"compressor": 1e-2, "projector": 1e-2, "lm": 1e-2}, 0.01, 2, 1.0, accumulate=accumulate),
        seed=8,
        checkpoint=checkpoint,
        save_minutes=0,
        evaluate=evaluate,
        evaluations=6,
        before_step=kill_at(when, how),
    )
    return model, table


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class Stopped(Exception):
    pass


def stop():
    raise Stopped


def sigkill():
    os.kill(os.getpid(), signal.SIGKILL)


def _killed_run(lm_folder, checkpoint):
    torch.set_num_threads(1)
    train(lm_folder, checkpoint, when=7, how=sigkill)


@pytest.fixture(scope="module", params=[1, 2])
def uninterrupted(request, lm_folder, tmp_path_factory):
    """Slides accumulated for a step, and the run that nothing cut."""
    folder = tmp_path_factory.mktemp("whole")
    return request.param, *train(lm_folder, folder / "whole.pt", accumulate=request.param)


@pytest.mark.parametrize("when", [1, 3, 6, 10])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(uninterrupted, lm_folder, tmp_path, when):
    accumulate, whole, table = uninterrupted
    with pytest.raises(Stopped):
        train(lm_folder, tmp_path / "cut.pt", when=when, how=stop, accumulate=accumulate)
    torch.rand(17)  # the global generator stands elsewhere when the run goes on
    resumed, again = train(lm_folder, tmp_path / "cut.pt", accumulate=accumulate)
    assert same_weights(whole, resumed)
    assert again.equals(table)
    assert len(table) == sum(STEPS)


def test_run_resumed_after_sigkill_equals_the_uninterrupted_one(lm_folder, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    process = multiprocessing.get_context("spawn").Process(target=_killed_run, args=(lm_folder, tmp_path / "cut.pt"))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["step"] == 7
    resumed, again = train(lm_folder, tmp_path / "cut.pt")
    whole, table = train(lm_folder, tmp_path / "whole.pt")
    torch.set_num_threads(threads)
    assert same_weights(whole, resumed)
    assert again.equals(table)


def test_a_run_depends_on_its_seed_and_not_on_the_global_generator(lm_folder, tmp_path):
    losses = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        losses.append(train(lm_folder, tmp_path / f"{global_seed}.pt")[1]["loss"])
    assert losses[0].equals(losses[1])


def test_best_weights_are_kept_not_the_last(lm_folder, tmp_path):
    model, feed = model_and_feed(lm_folder)
    scores, weights = iter([0.1, 0.7, 0.7, 0.3, 0.2, 0.0]), []

    def evaluate(model, share):
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(scores)

    table = fit(
        model, AnswerLoss(feed), Settings({"projector": 1e-2}, 0.0, 0, 1.0), seed=0, checkpoint=tmp_path / "c.pt",
        save_minutes=99,
        evaluate=evaluate, evaluations=6,
    )  # fmt: skip
    assert table["score"].dropna().tolist() == [0.1, 0.7, 0.7, 0.3, 0.2, 0.0]
    assert table.index[table["score"].notna()].tolist() == [1, 3, 5, 7, 9, 10]
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[1][name]), name
    assert not torch.equal(weights[1]["projector.0.weight"], weights[5]["projector.0.weight"])
    for name in ("compressor.scorer.head.weight", "feature_mean"):  # no rate: frozen
        assert torch.equal(weights[0][name], weights[5][name])


def test_training_ends_once_the_score_is_reached(lm_folder, tmp_path):
    model, feed = model_and_feed(lm_folder)
    scores = iter([0.1, 0.8, 0.9])
    table = fit(
        model, AnswerLoss(feed), Settings({"projector": 1e-2}, 0.0, 0, 1.0), seed=0, checkpoint=tmp_path / "c.pt",
        save_minutes=99,
        evaluate=lambda m, share: next(scores), evaluations=4, stop_at=0.8,
    )  # fmt: skip
    assert len(table) == 6


@pytest.mark.parametrize("accumulate", [1, 2])
def test_rate_warms_up_and_falls_by_a_cosine_to_a_tenth(lm_folder, tmp_path, accumulate):
    model, feed = model_and_feed(lm_folder, steps=(6, 6))
    table = fit(
        model, AnswerLoss(feed), Settings({"projector": 1e-3}, 0.0, 2, 1.0, accumulate=accumulate), seed=0,
        checkpoint=tmp_path / "c.pt", save_minutes=1000, evaluate=lambda m, share: 0.0, evaluations=1,
    )  # fmt: skip
    total = 12 // accumulate
    rates = table["lr"].to_numpy()[accumulate - 1 :: accumulate]  # after each optimiser step
    expected = [
        step / 2 if step < 2 else 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * (step - 2) / (total - 2)))
        for step in range(1, total + 1)
    ]
    assert rates / 1e-3 == pytest.approx(expected, abs=1e-9)


def test_every_example_comes_once_an_epoch_in_an_order_of_its_own(lm_folder):
    model, feed = model_and_feed(lm_folder, steps=(0, 10))
    seen = []
    for step in range(10):  # two examples a step, five in all: four epochs
        batch, texts = feed(step)
        assert len(batch.x) == 2
        for row in range(2):
            words = model.tokenizer.decode(texts.ids[row][texts.answer[row] == 2 * row])
            seen.append(words.replace("<end>", "").strip())
    epochs = [seen[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(epoch) == sorted(WORDS[:5]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_feed_is_a_function_of_the_step_with_boxes_and_cap(lm_folder):
    _, feed = model_and_feed(lm_folder)
    for step in (0, 4, 5, 10):
        first, second = feed(step), feed(step)
        assert torch.equal(first[0].x, second[0].x) and torch.equal(first[1].ids, second[1].ids)
    captions, _ = feed(0)
    assert captions.coords[captions.mask].max(0).values.tolist() == [256, 64]  # the box of 5 x 2 tiles
    assert max(int(feed(step)[0].mask.sum(1).max()) for step in range(5, 11)) == 29  # the cap


def test_shards_are_a_steps_slides_divided(lm_folder):
    _, feed = model_and_feed(lm_folder, steps=(4, 10))
    for step, shards in ((0, 3), (3, 3), (4, 2), (13, 2)):
        whole, texts = feed(step)
        parts = [feed(step, shard, shards) for shard in range(shards)]
        rows = [bag[real] for part, _ in parts for bag, real in zip(part.x, part.mask, strict=True)]
        assert len(rows) == len(whole.x)
        for row, bag, real in zip(rows, whole.x, whole.mask, strict=True):
            assert torch.equal(row, bag[real])
        assert feed.answer_tokens(step) == int((texts.answer >= 0).sum())
        assert feed.answer_tokens(step) == sum(int((part.answer >= 0).sum()) for _, part in parts)
    with pytest.raises(ValueError, match="got batches of 3 slides for 2 processes; expected a multiple of 2"):
        feed.check_shards(2)


def test_a_slide_without_features_is_named(lm_folder):
    model, _ = model_and_feed(lm_folder)
    with pytest.raises(ValueError, match=r"1 slides have no features \(\['s9'\]\)"):
        Feed(model, bags(), (Phase([Example("s9", None, ())], 1, 1),), seed=0, max_tiles=9)


def test_rates_go_to_the_parts_they_name(lm_folder):
    model, _ = model_and_feed(lm_folder)
    groups = parameter_groups(model, {"projector": 1e-3, "compressor": 2e-3, "lm": 3e-3})
    sizes = {group["lr"]: sum(p.numel() for p in group["params"]) for group in groups}
    lora = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    assert sizes[1e-3] == D * 19 + 19 + 19 * 24 + 24
    assert sizes[2e-3] == sum(p.numel() for p in model.compressor.parameters())
    assert sizes[3e-3] == lora


def test_accumulated_batches_are_one_big_batch(lm_folder, tmp_path):
    """Answers of 1 to 3 tokens, two questions a slide: the mean is over all tokens of an optimiser step."""
    states = []
    for batch, accumulate in ((6, 1), (3, 2), (1, 6)):
        model, feed = model_and_feed(lm_folder)
        questions = feed.phases[1].examples
        feed = Feed(model, bags(), (Phase(questions, 4 * accumulate, batch),), seed=4, max_tiles=29)
        rates = {"projector": 1e-2, "lm": 1e-2}  # the selector is frozen: no noise
        model.lm.eval()
        for module in model.lm.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        table = fit(
            model, AnswerLoss(feed), Settings(rates, 0.01, 0, 1.0, accumulate=accumulate), seed=8,
            checkpoint=tmp_path / "no.pt",
            save_minutes=1000, evaluate=lambda model, share: 0.0, evaluations=1,
        )  # fmt: skip
        assert len(table) == 4 * accumulate
        states.append(model.state_dict())
    for other in states[1:]:
        assert max(float((states[0][name] - other[name]).abs().max()) for name in other) < 1e-5


@pytest.mark.parametrize(("compressor", "options"), [("mean", {}), ("tcssa", {"routing_noise": 0.0})])
def test_a_batch_in_parts_is_the_whole_batch(lm_folder, tmp_path, monkeypatch, compressor, options):
    """Whatever the budget of tokens, and with turns in chunks; the compressor's own loss counts slides.

    In float64: Adam makes whole steps of rounding errors, and in float32 they reach a hundredth of a step.
    """
    compute_in_float64(monkeypatch)
    states, losses, runs = [], [], []
    for budget, text in ((10**6, 2048), (150, 2048), (1, 2048), (150, 1)):
        monkeypatch.setattr("slidesieve.training.feed.chunks", lambda turns, text=text: chunks(turns, text))
        options = {"expert_dropout": 0.0} | options if compressor == "tcssa" else {}
        model = build_vlm(lm_folder, compressor, d=D, k=K, seed=1, options=options, projector_width=19)
        model.fit_features(collate(list(bags().values())))
        take_float64(model.double().compressor)
        questions = [Example(f"s{i}", None, (("Is What", WORDS[i]), ("grade?", WORDS[5 - i]))) for i in range(5)]
        feed, passes = Feed(model, bags(), [Phase(questions, 6, 4)], seed=4, max_tiles=29), []
        model.compressor.register_forward_pre_hook(lambda _, given, passes=passes: passes.append(given[0].shape))
        settings = Settings({"projector": 1e-2, "compressor": 1e-2}, 0.01, 0, 1.0, accumulate=2, batch_tokens=budget)
        losses.append(
            fit(
                model, AnswerLoss(feed), settings, seed=8, checkpoint=tmp_path / "no.pt", save_minutes=99,
                evaluate=lambda model, share: 0.0, evaluations=1,
            )["loss"].to_numpy()
        )  # fmt: skip
        states.append(model.state_dict())
        runs.append(passes)
    assert [len(passes) for passes in runs[::2]] == [6, 24] and len(runs[3]) == 48 and 6 < len(runs[1]) < 24
    assert all(shape[0] * shape[1] <= 150 for shape in runs[1])
    for loss, state in zip(losses[1:], states[1:], strict=True):
        assert loss == pytest.approx(losses[0], abs=1e-12)
        apart = {name: float((states[0][name] - state[name]).abs().max()) for name in state}
        assert max(apart.values()) < 1e-9


def test_parts_hold_a_process_s_slides_and_weigh_by_them(lm_folder):
    _, feed = model_and_feed(lm_folder, steps=(4, 10))
    for step, shards, budget in ((0, 3, 40), (1, 1, 60), (7, 2, 1), (7, 1, 10**6)):
        for shard in range(shards):
            whole, texts = feed(step, shard, shards)
            parts = feed.parts(step, shard, shards, batch_tokens=budget)
            assert sum(part.weight for part in parts) == pytest.approx(1)
            sizes = sorted(int(n) for part in parts for n in part.tensors()[0].mask.sum(1))
            assert sizes == sorted(whole.mask.sum(1).tolist())
            assert sum(int((part.tensors()[1].answer >= 0).sum()) for part in parts) == int((texts.answer >= 0).sum())


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_run_that_is_no_number_ends_before_its_step_and_says_where(lm_folder, tmp_path, where):
    def train_to(when):
        model, feed = model_and_feed(lm_folder, steps=(0, 8))
        weights = []

        def spoil(model, step):
            weights.append({name: value.clone() for name, value in model.state_dict().items()})
            if step == when and where == "loss":
                model.feature_mean.fill_(float("nan"))
            elif step == when:
                model.projector[0].weight.register_hook(lambda gradient: gradient * float("inf"))

        rates = {"projector": 1e-2, "lm": 1e-2}
        return model, weights, lambda: fit(
            model, AnswerLoss(feed), Settings(rates, 0.0, 0, 1.0, accumulate=2), seed=0, checkpoint=tmp_path / "c.pt",
            save_minutes=0, evaluate=lambda m, share: 0.5, evaluations=2, before_step=spoil,
        )  # fmt: skip

    model, weights, run = train_to(5)
    said = {"loss": r"step 5: the loss is nan", "gradient": r"step 5: the gradient's norm is (nan|inf)"}[where]
    with pytest.raises(ValueError, match=rf"training: {said}.*last good checkpoint of step 4 in .*c\.pt; lower"):
        run()
    after = model.state_dict()
    learns = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learns and all(torch.equal(after[name], weights[-1][name]) for name in learns)
    assert torch.load(tmp_path / "c.pt", weights_only=True)["step"] == 4
    _, weights, run = train_to(None)
    run()
    assert len(weights) == 4  # on from the last good step


def test_a_training_without_a_finite_score_is_none(lm_folder, tmp_path):
    model, feed = model_and_feed(lm_folder, steps=(0, 2))
    with pytest.raises(ValueError, match="no validation gave a finite score"):
        fit(
            model, AnswerLoss(feed), Settings({"projector": 1e-2}, 0.0, 0, 1.0), seed=0, checkpoint=tmp_path / "c.pt",
            save_minutes=99, evaluate=lambda m, share: float("nan"), evaluations=2,
        )  # fmt: skip


def test_the_last_optimiser_step_takes_what_is_left(lm_folder, tmp_path):
    model, feed = model_and_feed(lm_folder, steps=(0, 5))
    before = model.projector[0].weight.clone()
    rates = fit(
        model, AnswerLoss(feed), Settings({"projector": 1e-3}, 0.0, 0, 1.0, accumulate=4), seed=0,
        checkpoint=tmp_path / "c.pt",
        save_minutes=1000, evaluate=lambda m, share: 0.0, evaluations=1,
    )["lr"].to_numpy()  # fmt: skip
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 0.55e-3, 1e-4])  # two steps on the cosine
    assert (model.projector[0].weight - before).abs().max() > 1.5e-3 * 0.9  # 1e-3 and 0.55e-3 by Adam


def test_frozen_parts_do_not_drop_out(lm_folder, tmp_path):
    modes = []

    def look(model, rates):
        model, feed = model_and_feed(lm_folder, steps=(0, 2))
        model.lm.register_forward_pre_hook(lambda *_: modes.append(model.lm.training))
        model.compressor.register_forward_pre_hook(lambda *_: modes.append(model.compressor.training))
        drops = [m for m in model.lm.modules() if isinstance(m, torch.nn.Dropout)]
        drops[0].register_forward_pre_hook(lambda *_: modes.append(drops[0].training))
        fit(
            model, AnswerLoss(feed), Settings(rates, 0.0, 0, 1.0, gradient_checkpointing=True), seed=0, evaluations=1,
            checkpoint=tmp_path / "c.pt", save_minutes=1000, evaluate=lambda m, share: 0.0,
        )  # fmt: skip

    look(lm_folder, {"projector": 1e-3, "lm": 0.0})
    assert modes and not any(modes)
    modes.clear()
    look(lm_folder, {"compressor": 1e-3, "lm": 1e-3})
    assert modes and all(modes)


@pytest.mark.parametrize("rates", [{"projector": 1e-2}, {"projector": 1e-2, "compressor": 1e-2, "lm": 1e-2}])
def test_recomputed_blocks_train_the_same_weights(lm_folder, tmp_path, rates):
    """Dropout and noise included; every block runs twice a step, the language model frozen or not."""
    states, runs = [], []
    for again in (False, True):
        model, feed = model_and_feed(lm_folder, steps=(2, 2))
        blocks, ran = model.lm.base_model.model.model.layers, []
        for block in blocks:
            block.self_attn.register_forward_pre_hook(lambda *_, ran=ran: ran.append(1))
        fit(
            model, AnswerLoss(feed), Settings(rates, 0.01, 0, 1.0, gradient_checkpointing=again), seed=8,
            save_minutes=99,
            checkpoint=tmp_path / "no.pt", evaluate=lambda model, share: 0.0, evaluations=1,
        )  # fmt: skip
        states.append(model.state_dict())
        runs.append(len(ran))
        assert not any(getattr(block, "gradient_checkpointing", False) for block in blocks)
    assert runs == [8, 16]
    assert max(float((states[0][name] - states[1][name]).abs().max()) for name in states[0]) < 1e-6


def test_bf16_computes_in_half_and_learns_in_single(tmp_path):
    """A language model stored in bf16; our parts and the adapters in float32; scores and loss in float32."""
    folder, tokenizer = tmp_path / "lm", build_tokenizer()
    build_lm(tokenizer, width=24, layers=2, heads=3, seed=0).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model, feed = model_and_feed(str(folder), dtype="bfloat16")
    seen = {}

    def note(name):
        return lambda module, given, kept, out: seen.update({name: out.dtype})

    model.compressor.scorer.blocks[0].qkv.register_forward_hook(note("scorer"), with_kwargs=True)
    model.projector.register_forward_hook(note("projector"), with_kwargs=True)
    model.register_forward_hook(lambda module, given, out: seen.update(log_probs=out[0].dtype, aux=out[1].dtype))
    model.lm.register_forward_pre_hook(
        lambda module, given, kept: seen.update(embeds=kept["inputs_embeds"].dtype), with_kwargs=True
    )
    rates = {"compressor": 1e-2, "projector": 1e-2, "lm": 1e-2}
    table = fit(
        model, AnswerLoss(feed), Settings(rates, 0.01, 2, 1.0, mixed_precision="bf16"), seed=8,
        checkpoint=tmp_path / "c.pt",
        save_minutes=1000, evaluate=lambda model, share: 0.0, evaluations=3,
    )  # fmt: skip
    half, single = torch.bfloat16, torch.float32
    assert seen == {"scorer": single, "projector": half, "embeds": half, "log_probs": single, "aux": single}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {single}
    assert {p.dtype for n, p in model.lm.named_parameters() if "lora_" not in n} == {half}
    assert np.isfinite(table["loss"]).all() and table["loss"].iloc[-1] < table["loss"].iloc[0]
    _, exact = train_exactly(folder, tmp_path / "exact.pt")
    assert table["loss"].iloc[0] == pytest.approx(exact["loss"].iloc[0], abs=0.05)
    log_probs, _ = model(*feed(0))  # in evaluation, without autocast: our parts in single
    assert seen["scorer"] == seen["projector"] == single and seen["embeds"] == half and log_probs.dtype == single


def train_exactly(folder, checkpoint):
    model, feed = model_and_feed(str(folder))
    return model, fit(
        model, AnswerLoss(feed), Settings({"compressor": 1e-2}, 0.01, 2, 1.0), seed=8, checkpoint=checkpoint,
        save_minutes=99,
        evaluate=lambda model, share: 0.0, evaluations=1, stop_at=0.0,
    )  # fmt: skip


def test_what_cannot_be_is_refused_before_it_starts(lm_folder, tmp_path):
    model, feed = model_and_feed(lm_folder)
    with pytest.raises(ValueError, match="mixed_precision: got 'fp16'; expected no or bf16"):
        fit(
            model, AnswerLoss(feed), Settings({}, 0.0, 0, 1.0, mixed_precision="fp16"), seed=0,
            checkpoint=tmp_path / "c.pt",
            save_minutes=0, evaluate=lambda m, share: 0.0, evaluations=1,
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"got cuda for 99 processes; this machine has \d+ GPUs"):
        fit(
            model, AnswerLoss(feed), Settings({}, 0.0, 0, 1.0), seed=0, checkpoint=tmp_path / "c.pt", save_minutes=0,
            evaluate=lambda m, share: 0.0, evaluations=1, device="cuda", processes=99,
        )  # fmt: skip
    with pytest.raises(ValueError, match="schedule of tau: got 'steps'"):
        cooling(1.0, 0.1, 10, schedule="steps")


def test_tau_cools_as_told(lm_folder):
    model, _ = model_and_feed(lm_folder)
    for schedule, expected in {
        "cosine": [1.0, 0.55, 0.1, 0.1], "linear": [1.0, 0.55, 0.1, 0.1], "constant": [1.0, 1.0, 1.0, 1.0],
    }.items():  # fmt: skip
        cool, taus = cooling(1.0, 0.1, 10, schedule=schedule), []
        for step in (0, 5, 10, 25):
            cool(model, step)
            taus.append(float(model.compressor.tau))
        assert taus == pytest.approx(expected, abs=1e-6), schedule
    cooling(1.0, 0.1, 8, schedule="linear")(model, 2)
    assert float(model.compressor.tau) == pytest.approx(0.775)


def test_what_is_watched_stands_beside_the_score(lm_folder, tmp_path):
    model, feed = model_and_feed(lm_folder)
    table = fit(
        model, AnswerLoss(feed), Settings({"projector": 1e-2}, 0.0, 0, 1.0), seed=0, checkpoint=tmp_path / "c.pt",
        save_minutes=99,
        evaluate=lambda m, share: 0.5, evaluations=3, watch=lambda m, share: {"mass": 0.25, "tau": float("nan")},
    )  # fmt: skip
    assert table.columns.tolist() == ["step", "loss", "lr", "score", "mass", "tau"]
    judged = table["score"].notna()
    assert table.index[judged].tolist() == [3, 7, 10]
    assert (table.loc[judged, "mass"] == 0.25).all() and table.loc[~judged, "mass"].isna().all()
    assert table["tau"].isna().all()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() == 0, reason="no CUDA device")
def test_on_a_gpu_a_cut_run_in_bf16_goes_on_where_it_was(lm_folder, tmp_path):
    def run(name, when=None):
        model, feed = model_and_feed(lm_folder)
        rates = {"compressor": 1e-2, "projector": 1e-2, "lm": 1e-2}
        settings = Settings(rates, 0.01, 2, 1.0, mixed_precision="bf16", gradient_checkpointing=True)
        table = fit(
            model, AnswerLoss(feed), settings, seed=8, checkpoint=tmp_path / name, save_minutes=0,
            evaluate=lambda m, share: float(m.compressor.tau),
            evaluations=1, before_step=kill_at(when, stop), device="cuda",
        )  # fmt: skip
        return model, table

    whole, table = run("whole.pt")
    with pytest.raises(Stopped):
        run("cut.pt", when=7)
    resumed, again = run("cut.pt")
    assert whole.feature_mean.is_cuda and np.isfinite(table["loss"]).all()
    assert again["loss"].tolist() == table["loss"].tolist()
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
