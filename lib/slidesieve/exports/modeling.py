"""A published model: tile features of a slide and a question -> an answer, or the few tokens that stand for the slide.

    model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True, lm=PATH_OR_ID)
    model.answer(features, coords, "Which subtype?", ["clear cell", "papillary"]).option

`features (n d)` are those of the encoder in `preprocessor_config.json`, `coords (n 2)` the tiles' top-left corners in
level-0 pixels. `lm` is the language model that it was trained with; its weights are checked by their fingerprint.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from huggingface_hub import snapshot_download
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from slidesieve.answers.rotations import mean_over_rotations, rotations_of
from slidesieve.answers.sums import Asked, answer_sums, evaluating
from slidesieve.datasets.examples import answers_of
from slidesieve.datasets.questions import LETTERS, Question, prompt
from slidesieve.exports.configuration import SlideSieveConfig
from slidesieve.exports.portable import add_adapter
from slidesieve.features.bag import Bag, collate, linspace_cap, make_bag
from slidesieve.models.chat import ChatFormat
from slidesieve.models.checkpoints import build_vlm
from slidesieve.models.reproducible import reproducible
from slidesieve.models.vlm import VLM

WEIGHTS, LORA, LM, TOKENIZER = "model.safetensors", "lora", "lm", "tokenizer"  # in a published folder
OF_THE_HUB = ("revision", "token", "cache_dir", "local_files_only", "force_download")
SAID = ("trust_remote_code", "adapter_kwargs", "_from_auto", "_commit_hash", "code_revision")  # by AutoModel, unasked


class Answer(NamedTuple):
    """The option with the highest score, and each option's log-likelihood (natural, summed over its tokens).

    `letter` and `option` are None where a score is not finite.
    """

    letter: str | None
    option: str | None
    log_probs: list[float]


class Tokens(NamedTuple):
    """The m tokens that stand for a slide of n tiles.

    `kept`: which of the given tiles each token is, -1 for one that mixes some, None where all do. `scores`: how much
    each given tile is worth keeping, nan for one left out beforehand; None where the method has no opinion.
    """

    tokens: Float[Tensor, "m w"]
    kept: Int[np.ndarray, " m"] | None
    scores: Float[np.ndarray, " n"] | None


class SlideSieveModel(PreTrainedModel):
    """Slide encoder, compressor and fusion around the language model that `lm` names; for answers, not for training."""

    config_class = SlideSieveConfig

    def __init__(self, config: SlideSieveConfig, vlm: VLM):
        super().__init__(config)
        self.vlm = vlm

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str, *, config: SlideSieveConfig | None = None, lm: str = "", device: str = "cpu", **given
    ) -> "SlideSieveModel":
        """Build it and load its weights. `lm`: folder or hub id of the language model; "": the one in the folder.

        `dtype`: of the language model: auto, float32 or bfloat16. Raises ValueError for another language model.
        """
        hub = {name: given.pop(name) for name in OF_THE_HUB if name in given}
        dtype = str(given.pop("dtype", None) or "").removeprefix("torch.")
        if unknown := sorted(set(given) - set(SAID)):
            raise ValueError(f"{folder_or_id}: got {', '.join(unknown)}; expected lm, device, dtype; leave it out")
        folder = Path(folder_or_id)
        folder = folder if folder.is_dir() else Path(snapshot_download(str(folder_or_id), **hub))
        config = config or SlideSieveConfig.from_pretrained(folder)
        vlm = _built(config, folder, lm, dtype or config.asking["dtype"], device)
        return cls(config, vlm.to(device)).requires_grad_(False).eval()

    def answer(
        self,
        features: Float[np.ndarray, "n d"],
        coords: Int[np.ndarray, "n 2"],
        question: str,
        options: Sequence[str],
    ) -> Answer:
        """Score each option of a question about a slide by its log-likelihood."""
        return self.answer_all([(features, coords, [(question, options)])])[0][0]

    def answer_all(
        self, slides: Sequence[tuple[np.ndarray, np.ndarray, Sequence[tuple[str, Sequence[str]]]]], *,
        batch_tokens: int = 65536,
    ) -> list[list[Answer]]:  # fmt: skip
        """Answer many questions: of each slide (features, coords, [(question, options), ...]), an answer each.

        A slide is compressed once; `batch_tokens`: tiles and text at a time, padding included.
        """
        bags = [self._bag(features, coords) for features, coords, _ in slides]
        views = [[rotations_of(_question(*q), self.config.asking["rotations"]) for q in own] for *_, own in slides]
        asked = [
            Asked([self._turn(view) for of in own for view in of], len(bag.x), lambda bag=bag: bag)
            for own, bag in zip(views, bags, strict=True)
        ]
        with evaluating(self.vlm, soft=False), reproducible(self.vlm.feature_mean.device, gradients=False):
            sums = answer_sums(self.vlm, asked, batch_tokens=batch_tokens)
        told = [iter(scores) for scores in sums]
        return [
            [_answer(of[0], mean_over_rotations([next(scores) for _ in of])) for of in own]
            for own, scores in zip(views, told, strict=True)
        ]

    @torch.no_grad()
    def compress(self, features: Float[np.ndarray, "n d"], coords: Int[np.ndarray, "n 2"]) -> Tokens:
        """The tokens that stand for a slide, before the projector, and which tiles they are."""
        bag = self._bag(features, coords)
        with evaluating(self.vlm, soft=False):
            found = self.vlm.compress(collate([bag]).to(self.vlm.feature_mean.device))
        real, kept, scores = found.mask[0], None, None
        if found.kept is not None:
            kept = found.kept[0][real].cpu().numpy()
            kept = np.where(kept < 0, -1, bag.slide_index[np.maximum(kept, 0)])
        if found.scores is not None:
            scores = np.full(len(features), np.nan, np.float32)
            scores[bag.slide_index] = found.scores[0].cpu().numpy()[: len(bag.x)]
        return Tokens(found.tokens[0][real], kept, scores)

    def _bag(self, features: np.ndarray, coords: np.ndarray) -> Bag:
        x, d = np.asarray(features), self.config.model["d"]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(
                f"features: got {x.shape}; expected (n, {d}); extract them as preprocessor_config.json says"
            )
        bag = make_bag("features", x, np.asarray(coords), {})
        return linspace_cap(bag, self.config.asking["max_tiles"] or len(x))

    def _turn(self, question: Question):
        return self.vlm.chat.turn(prompt(question), answers_of(question, self.config.asking["answer_form"]))


def _built(config: SlideSieveConfig, folder: Path, lm: str, dtype: str, device: str) -> VLM:
    """The model with its weights, the adapter beside the language model's."""
    made, inside = dict(config.model), folder / LM
    if not lm and not inside.is_dir():
        raise ValueError(f"{folder}: holds no language model; give lm=, {made['lm']['name']} by folder or hub id")
    base = made["lm"]
    if config.own_lm:  # tuned whole: what is in the folder grew from the base, and is not it
        lm, made["lm"] = str(inside), None
    vlm = build_vlm(lm or str(inside), made.pop("compressor"), **made, dtype=dtype, device=device)
    vlm.config["lm"] = base
    vlm.tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER)
    vlm.chat = ChatFormat(vlm.tokenizer, template=made["chat_template"], rendered=made["chat"])
    saved, own = load_file(folder / WEIGHTS), vlm.ours()
    if saved.keys() != own.keys():
        raise ValueError(f"{folder}/{WEIGHTS}: other tensors than {sorted(own)}; fetch the folder again")
    vlm.load_state_dict(saved, strict=False)
    if (folder / LORA).is_dir():
        add_adapter(vlm.lm, folder / LORA)
    return vlm


def _question(text: str, options: Sequence[str]) -> Question:
    if not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"options: got {len(options)}; expected 2 to {len(LETTERS)}; name the possible answers")
    return Question("", "", "", "", text, tuple(options), 0)


def _answer(question: Question, scores: list[float]) -> Answer:
    if not np.isfinite(scores).all():
        return Answer(None, None, scores)
    best = int(np.argmax(scores))
    return Answer(LETTERS[best], question.options[best], scores)
