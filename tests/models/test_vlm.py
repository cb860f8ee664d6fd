"""The visual prefix and packed questions, against one plain causal sequence per slide, question and answer."""

import json

import pytest
import torch
from tiny_vlm import OPTIONS, D, K

from slidesieve.features.bag import Batch
from slidesieve.models.chat import CHATML, ChatFormat, pack
from slidesieve.models.checkpoints import build_vlm, load_model, save_model, start_from
from slidesieve.models.vlm import VLM
from slidesieve.training.step import parameter_groups

N, SHORT, WIDTH = 75, 41, 24
ASKED = [  # two slides; prompts and answers of different lengths, one unknown word
    [("Which finding is present? A. abscess B. necrosis", ["abscess", "necrosis", "A B C"]), ("Is What", ["yes"])],
    [("What is the grade?", ["B. yes", "zzqy"]), ("Is it?", ["no", "yes yes no"]), ("tumour", ["A"])],
]


def build(lm_folder: str, compressor: str, *, seed: int = 1) -> VLM:
    options = OPTIONS.get(compressor, {})
    return build_vlm(lm_folder, compressor, d=D, k=K, seed=seed, options=options, projector_width=19).eval()


def batch(*lengths: int) -> Batch:
    n = max(lengths)
    mask = torch.arange(n) < torch.tensor(lengths)[:, None]
    x = torch.zeros(len(lengths), n, D)
    for i, length in enumerate(lengths):
        x[i, :length] = 3 * torch.randn(length, D, generator=torch.Generator().manual_seed(length))
    coords = torch.stack([torch.arange(n) * 64, torch.zeros(n, dtype=torch.long)], -1).expand(len(lengths), n, 2)
    return Batch(x, coords * mask[..., None], mask)


def turns_of(model: VLM, asked: list) -> list:
    return [[model.chat.turn(prompt, answers) for prompt, answers in row] for row in asked]


def sums_by_answer(log_probs: torch.Tensor, texts) -> list[float]:
    count = int(texts.answer.max()) + 1
    return [float(log_probs[texts.answer == a].sum()) for a in range(count)]


def one_sequence(model: VLM, tokens: torch.Tensor, positions: list[int], span: int, prompt: str, answer: str) -> float:
    """log p(answer, end | slide, prompt) from one unpadded sequence under the language model's own causal mask."""
    encode = lambda text: model.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    head, question = encode("<user>"), encode(f"{prompt} <assistant>")
    target = [*encode(answer), model.tokenizer.eos_token_id]
    embed, text = model.lm.get_input_embeddings(), [*question, *target]
    embeds = torch.cat([embed(torch.tensor(head)), model.projector(tokens), embed(torch.tensor(text))])
    h = len(head)
    ids = [*range(h), *(h + p for p in positions), *(h + span + i for i in range(len(text)))]
    logits = model.lm(
        inputs_embeds=embeds[None], position_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))
    ).logits[0]
    log_p = logits.log_softmax(-1)
    first = len(ids) - len(target)
    return float(sum(log_p[first + i - 1, token] for i, token in enumerate(target)))


@pytest.mark.parametrize("compressor", ["all", "sparselearn", "linspace", "mean", "random", "text_only"])
def test_packed_padded_questions_equal_one_plain_sequence_each(lm_folder, compressor):
    """Neither other questions, other answers, padding nor batch-mates change a log-likelihood beyond 1e-5 a token."""
    model = build(lm_folder, compressor)
    texts = pack(turns_of(model, ASKED))
    slides = batch(SHORT, N)
    with torch.no_grad():
        log_probs, aux_loss = model(slides, texts)
        compressed = model.compress(slides)
        expected = []
        for i, row in enumerate(ASKED):
            real = compressed.mask[i]
            tokens, positions = compressed.tokens[i][real], compressed.positions[i][real].tolist()
            for prompt, answers in row:
                for answer in answers:
                    expected.append(one_sequence(model, tokens, positions, int(compressed.span[i]), prompt, answer))
    assert float(aux_loss) == 0
    assert sums_by_answer(log_probs, texts) == pytest.approx(expected, abs=2e-5)
    assert len({round(e, 3) for e in expected}) == len(expected)


def test_alone_and_in_company(lm_folder):
    model = build(lm_folder, "sparselearn")
    with torch.no_grad():
        texts = pack(turns_of(model, ASKED))
        together = sums_by_answer(model(batch(SHORT, N), texts)[0], texts)
        apart = []
        for length, row in zip((SHORT, N), ASKED, strict=True):
            for question in row:
                texts = pack(turns_of(model, [[question]]))
                apart += sums_by_answer(model(batch(length), texts)[0], texts)
    assert together == pytest.approx(apart, abs=2e-5)


def test_labels_cover_exactly_the_answers_and_their_end_tokens(lm_folder):  # I45
    model = build(lm_folder, "all")
    tokenizer, texts = model.tokenizer, pack(turns_of(model, ASKED))
    number = 0
    for i, row in enumerate(ASKED):
        for _, answers in row:
            for answer in answers:
                supervised = texts.ids[texts.answer == number].tolist()
                expected = tokenizer(answer, add_special_tokens=False)["input_ids"]
                assert supervised == [*expected, tokenizer.eos_token_id]
                assert (texts.answer == number).nonzero()[:, 0].unique().tolist() == [i]
                number += 1
    assert int(texts.answer.max()) == number - 1
    prompts = texts.ids[texts.answer < 0]
    assert tokenizer.eos_token_id not in prompts.tolist()
    log_probs = model(batch(SHORT, N), texts)[0]
    assert (log_probs[texts.answer < 0] == 0).all() and (log_probs[texts.answer >= 0] < 0).all()


def test_a_label_is_predicted_by_the_token_before_it(lm_folder):
    model = build(lm_folder, "all")
    prompt, answers = ASKED[1][1]
    texts = pack([[model.chat.turn(*ASKED[1][0]), model.chat.turn(prompt, answers)]])
    offset = texts.offset[0]
    for at in (texts.answer[0] >= 0).nonzero()[:, 0].tolist():
        before = int(texts.predictor[0, at])
        assert offset[at] == offset[before] + 1
        assert texts.sees[0, at, before] and texts.sees[0, before].sum() == offset[before] + 1


def spied(model: VLM, slides: Batch) -> tuple[dict, object, object]:
    """What the language model was given, with the compressed slides and the texts."""
    seen = {}
    original = model.lm.forward
    model.lm.forward = lambda **given: seen.update(given) or original(**given)
    texts = pack(turns_of(model, ASKED))
    model(slides, texts)  # with a gradient: all in one call, under a dense mask
    return seen, model.compress(slides), texts


@pytest.mark.parametrize("compressor", ["all", "sparselearn", "mean", "text_only"])
def test_visual_tokens_stand_in_exactly_their_places(lm_folder, compressor):  # I46, I25
    model = build(lm_folder, compressor)
    seen, compressed, texts = spied(model, batch(SHORT, N))
    b, m, _ = compressed.tokens.shape
    h, t = len(model.chat.head), texts.ids.shape[1]
    embeds, positions = seen["inputs_embeds"], seen["position_ids"]
    embed = model.lm.get_input_embeddings()
    assert embeds.shape[:2] == positions.shape == (b, h + m + t)
    assert torch.equal(embeds[:, :h], embed(torch.tensor([model.chat.head] * b)))
    assert torch.equal(embeds[:, h : h + m], model.projector(compressed.tokens))
    assert torch.equal(embeds[:, h + m :], embed(texts.ids))
    claimed = {"all": [SHORT, N], "sparselearn": [SHORT, N], "mean": [K, K], "text_only": [0, 0]}[compressor]
    for i, span in enumerate(claimed):
        assert positions[i, :h].tolist() == list(range(h))
        real = compressed.mask[i]
        visual = positions[i, h : h + m][real].tolist()
        if compressor in ("all", "mean"):
            assert visual == list(range(h, h + span))  # N tiles, N positions
        else:
            assert visual == [h + p for p in compressed.positions[i][real].tolist()]
        assert positions[i, h + m] == h + span  # the question starts where the visual span ends
    allowed = seen["attention_mask"][:, 0] == 0
    assert not allowed[0, h + m :, h : h + m][:, ~compressed.mask[0]].any()
    assert allowed[:, h + m :, :h].all()


def test_kept_tiles_claim_their_original_indices(lm_folder):  # I25
    model = build(lm_folder, "sparselearn")
    slides = batch(SHORT, N)
    seen, _, _ = spied(model, slides)
    h = len(model.chat.head)
    scores = model.compressor.scores(model.normalise(slides), slides.mask)
    for i, n in enumerate((SHORT, N)):
        best = sorted(sorted(range(n), key=lambda j: -scores[i, j].item())[:K])
        assert seen["position_ids"][i, h : h + K].tolist() == [h + j for j in best]


def test_prompt_is_the_published_chat_turn():  # methods of SlideChat: no system turn, the image first, then a newline
    class Plain:
        chat_template, eos_token_id, name_or_path = None, 7, "plain"

        def __call__(self, text, add_special_tokens):
            return {"input_ids": [ord(c) for c in text]}

        def apply_chat_template(self, message, *, tokenize, add_generation_prompt, chat_template, **dates):
            from jinja2 import Template

            assert chat_template == CHATML
            return Template(chat_template).render(messages=message, add_generation_prompt=add_generation_prompt)

    chat = ChatFormat(Plain(), "chatml")
    turn = chat.turn("How {text} <many>?", ["B"])
    assert "".join(map(chr, chat.head)) == "<|im_start|>user\n"
    assert "".join(map(chr, turn.prompt)) == "\nHow {text} <many>?<|im_end|>\n<|im_start|>assistant\n"
    assert turn.answers == [[ord("B"), 7]]


def test_features_are_standardised_by_the_real_training_tiles_then_layer_normed(lm_folder):
    model, slides = build(lm_folder, "all"), batch(SHORT, N)
    slides = slides._replace(x=slides.x + 5 * ~slides.mask[..., None])
    model.fit_features(slides)
    real = torch.cat([slides.x[0, :SHORT], slides.x[1]])
    mean = sum(real) / len(real)
    std = (sum((row - mean) ** 2 for row in real) / len(real)).sqrt()
    x = (slides.x[0, 3] - mean) / std
    expected = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    assert (model.compress(slides).tokens[0, 3] - expected).abs().max() < 1e-5


def test_only_ours_learns_until_lora_and_lora_starts_as_nothing(lm_folder):
    model = build(lm_folder, "sparselearn")
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"compressor", "projector"}
    texts, slides = pack(turns_of(model, ASKED)), batch(SHORT, N)
    before = model(slides, texts)[0]
    model.add_lora(rank=2, alpha=4, dropout=0.1)
    model.eval()
    assert torch.equal(model(slides, texts)[0], before)
    learns = {n for n, p in model.named_parameters() if p.requires_grad and n.startswith("lm.")}
    assert learns and all("lora_" in n for n in learns)
    assert {part for n in learns for part in n.split(".") if part.endswith("_proj")} == {
        f"{p}_proj" for p in ("q", "k", "v", "o", "gate", "up", "down")
    }


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("compressor", ["sparselearn", "mean", "random", "all", "locpath"])
def test_a_saved_model_answers_the_same(lm_folder, tmp_path, compressor, lora):
    model = build(lm_folder, compressor, seed=5)
    model.fit_features(batch(SHORT, N))
    if lora:
        model.add_lora(rank=2, alpha=4, dropout=0.1)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    if compressor == "sparselearn":
        model.compressor.tau.fill_(0.125)
    model.eval()
    save_model(model, tmp_path / "saved")
    again = load_model(tmp_path / "saved", lm_folder)
    texts, slides = pack(turns_of(model, ASKED)), batch(SHORT, N)
    assert torch.equal(again(slides, texts)[0], model(slides, texts)[0])
    assert not again.training
    if compressor == "sparselearn":
        assert float(again.compressor.tau) == 0.125


def one_step(model: VLM, slides: Batch, texts, *, lr: float) -> None:
    rates = dict.fromkeys(("projector", "compressor", "lm"), lr)
    optimizer = torch.optim.AdamW(parameter_groups(model, rates), weight_decay=0)
    log_probs, _ = model(slides, texts)
    (-log_probs.sum()).backward()
    optimizer.step()


@pytest.mark.parametrize("compressor", ["all", "locpath"])
def test_a_language_model_tuned_in_full_belongs_to_the_model(lm_folder, tmp_path, compressor):
    """Its weights change, are saved with the model, and answer the same without the language model they came from."""
    model, slides = build(lm_folder, compressor), batch(SHORT, N)
    texts = pack(turns_of(model, ASKED))
    model.let_lm_learn("full", rank=8, alpha=16, dropout=0.1)
    before = {name: p.detach().clone() for name, p in model.lm.named_parameters()}
    assert model.trainable()["lm"] == sum(p.numel() for p in model.lm.parameters()) > 0
    one_step(model, slides, texts, lr=1e-3)
    assert not [name for name, p in model.lm.named_parameters() if torch.equal(p, before[name])]
    model.eval()
    save_model(model, tmp_path / "tuned")
    again = load_model(tmp_path / "tuned", "a folder that is not there")
    with torch.no_grad():
        assert torch.equal(again(slides, texts)[0], model(slides, texts)[0])
    assert again.own_lm and not build(lm_folder, compressor).own_lm
    save_model(again, tmp_path / "copied")
    assert (tmp_path / "copied/lm/config.json").exists()
    with pytest.raises(ValueError, match="train_lm: got lora on a language model that was tuned in full"):
        again.let_lm_learn("lora", rank=2, alpha=4, dropout=0.0)


def test_a_step_of_full_tuning_is_not_lost_in_bfloat16(lm_folder):
    model = build(lm_folder, "all")
    model.lm.bfloat16()
    before = model.lm.model.layers[1].mlp.up_proj.weight.detach().float().clone()
    model.let_lm_learn("full", rank=0, alpha=0, dropout=0.0)
    one_step(model, batch(SHORT, N), pack(turns_of(model, ASKED)), lr=1e-6)
    moved = (model.lm.model.layers[1].mlp.up_proj.weight - before).abs()
    assert (moved > 0).float().mean() > 0.9  # in bfloat16 a weight of 0.3 moves by 0.002 or not at all


def test_what_of_the_language_model_learns(lm_folder):
    model = build(lm_folder, "all")
    for how, rank in (("none", 8), ("lora", 0)):
        model.let_lm_learn(how, rank=rank, alpha=16, dropout=0.1)
        assert model.trainable()["lm"] == 0
    with pytest.raises(ValueError, match="train_lm: got 'some'; expected one of"):
        model.let_lm_learn("some", rank=2, alpha=4, dropout=0.1)
    model.config["seed"] = 3
    model.let_lm_learn("lora", rank=2, alpha=4, dropout=0.1)
    assert 0 < model.trainable()["lm"] < sum(p.numel() for p in model.lm.parameters()) / 2


def test_without_standardising_tiles_are_the_files_numbers_for_every_method(lm_folder, tmp_path):
    slides, kept = batch(SHORT, N), {"d": D, "k": K, "seed": 1, "projector_width": 19, "standardise": False}
    for name in ("all", "linspace", "sparselearn"):
        model = build_vlm(lm_folder, name, options=OPTIONS.get(name, {}), **kept).eval()
        save_model(model, tmp_path / name)
        again = load_model(tmp_path / name, lm_folder)
        assert not again.standardise and torch.equal(again.encode(slides), slides.x)
        out = again.compress(slides)
        own = torch.nn.functional.layer_norm(slides.x, (D,)) if name == "sparselearn" else slides.x
        for i in range(2):
            assert torch.equal(out.tokens[i][out.mask[i]], own[i, out.kept[i][out.mask[i]]])


@torch.no_grad()
def test_latents_are_read_without_a_visual_prefix_alone_as_in_company(lm_folder):  # I43
    model = build(lm_folder, "locpath")
    texts, slides = pack(turns_of(model, ASKED)), batch(SHORT, N)
    compressed = model.compress(slides)
    prefix = model.prefix(compressed, texts)
    assert compressed.tokens.shape == (2, 9, 16)
    assert prefix.embeds.shape == (2, 0, 24) and prefix.span.tolist() == [0, 0]
    assert not hasattr(model, "projector") and model.trainable()["reader"] > 0
    together, _ = model(slides, texts)
    scores = iter(sums_by_answer(together, texts))
    for row, asked in enumerate(ASKED):
        alone = Batch(*(part[row : row + 1] for part in slides.tiles))
        for prompt, answers in asked:
            own = pack([[model.chat.turn(prompt, answers)]])
            for got in sums_by_answer(model(alone, own)[0], own):
                assert got == pytest.approx(next(scores), abs=1e-4)


def test_a_stage_starts_from_the_alignment_with_its_projector_and_a_fresh_compressor(lm_folder, tmp_path):
    aligned = build(lm_folder, "all", seed=1)
    aligned.fit_features(batch(N))
    save_model(aligned, tmp_path / "aligned")
    model = build(lm_folder, "sparselearn", seed=2)
    fresh = start_from(model, tmp_path / "aligned")
    assert all(name.startswith("compressor.") for name in fresh)
    assert {f"compressor.{name}" for name in model.compressor.state_dict()} == set(fresh)
    assert torch.equal(model.projector[0].weight, aligned.projector[0].weight)
    assert torch.equal(model.feature_std, aligned.feature_std)
    other = build_vlm(lm_folder, "all", d=D, k=K, seed=1, options={}, projector_width=20)
    with pytest.raises(ValueError, match=r"projector\.0\.weight: got \(19, 33\), expected \(20, 33\)"):
        start_from(other, tmp_path / "aligned")


def test_faults_are_named(lm_folder, tmp_path):
    with pytest.raises(ValueError, match="compressor: got 'best'"):
        build_vlm(lm_folder, "best", d=D, k=K, seed=0, options={}, projector_width=19)
    model = build(lm_folder, "mean")
    save_model(model, tmp_path / "mean")
    recipe = json.loads((tmp_path / "mean/model.json").read_text())
    (tmp_path / "mean/model.json").write_text(json.dumps(recipe | {"k": K + 1}))
    with pytest.raises(ValueError, match="made for another model"):
        load_model(tmp_path / "mean", lm_folder)
