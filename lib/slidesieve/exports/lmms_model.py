"""The model `slidesieve` of lmms-eval: a run, or a folder that was exported with --to hf, answers a task's questions.

    --model_args run=runs/demo,method=sparselearn,k=8,seed=0
    --model_args model=published/sparselearn,features=FEATURES,lm=PATH_OR_ID

A task's documents name their slide (`doc["slide"]`); its features are read here, and the questions are asked by what
stage 60 asks with, in its batches, so that its answers come again to the last digit. lmms-eval alone imports this.
"""

from collections.abc import Mapping
from math import inf
from pathlib import Path

import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms

from slidesieve.answers.answering import answer
from slidesieve.cohort.ids import common
from slidesieve.datasets.examples import answers_of
from slidesieve.datasets.questions import LETTERS, Question, prompt
from slidesieve.exports.huggingface import ASKING, language_model
from slidesieve.exports.modeling import SlideSieveModel
from slidesieve.exports.runs import Run, find_run
from slidesieve.features.bag import Bag
from slidesieve.features.bag_files import BagView, open_features
from slidesieve.models.checkpoints import load_model


class SlideSieve(lmms):
    """Compressor, fusion and language model behind lmms-eval's interface.

    `run`, with `method`, `k` and `seed` where there are several; or `model`, a folder of --to hf, with the `features`
    of its slides: a packed store, a folder of <slide_id>.h5, or a manifest. `lm`: the language model by path or id,
    where it is not the run's. Batches are by tokens (`batch_tokens`); lmms-eval's --batch_size changes nothing.
    """

    is_simple = True

    def __init__(
        self, run: str = "", method: str = "", k: int | None = None, seed: int | None = None, model: str = "",
        features: str = "", lm: str = "", device: str = "cpu", batch_tokens: int = 65536, threads: int = 1,
        batch_size: int | str | None = None,
    ):  # fmt: skip
        super().__init__()
        if bool(run) == bool(model) or bool(model) != bool(features):
            got = f"run={run}, model={model}, features={features}"
            raise ValueError(f"slidesieve: got {got}; expected run=FOLDER, or model=FOLDER,features=PATH; give one")
        torch.set_num_threads(threads)
        self.batch_tokens, self.run = batch_tokens, None
        if run:
            self.run: Run | None = find_run(Path(run), method=method, k=k, seed=seed)
            self.asking = {name: self.run.given[name] for name in ASKING}
            lm, folder = lm or language_model(self.run), self.run.checkpoint / "model"
            self.vlm = load_model(folder, lm, device=device, dtype=self.asking["dtype"])
        else:
            loaded = SlideSieveModel.from_pretrained(model, lm=lm, device=device)
            self.vlm, self.asking, self.features = loaded.vlm, loaded.config.asking, open_features(Path(features))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The loss (negative log-likelihood, natural, summed over tokens) of each request's option, and False.

        lmms-eval's models return losses here, and its tasks choose the least. Nothing is said of what the model would
        have said by itself: the second is never True. A question whose slide has no features has an infinite loss.

        Raises ValueError for requests that are not a whole question as its document has it: with examples, with a
        system prompt, or with options in another form than the model is asked for.
        """
        in_order = sorted(requests, key=lambda request: (*request.args[4:6], request.args[3]))  # as stage 60 asked
        asked = {request.args[3:6]: request.args[0] for request in in_order}
        docs = {key: self.task_dict[task][split][i] for key in asked for i, task, split in [key]}
        questions = {key: _question(str(n), doc) for n, (key, doc) in enumerate(docs.items())}
        for key, question in questions.items():
            self._check(asked[key], question, docs[key])
        losses = self._losses(list(questions.values()))
        found = {key: dict(zip(docs[key]["choices"], losses[q.id], strict=True)) for key, q in questions.items()}
        return [(found[request.args[3:6]][request.args[1].strip()], False) for request in requests]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError(
            "slidesieve: asked for words; expected questions with options (output_type multiple_choice)"
        )

    generate_until_multi_round = generate_until

    def _losses(self, questions: list[Question]) -> dict[str, list[float]]:
        """Each question's losses, in the order of its options."""
        bags = self._bags(list(dict.fromkeys(question.slide_id for question in questions)))
        if not bags:
            raise ValueError(
                f"slidesieve: none of the slides asked about has features ({questions[0].slide_id}, ...); "
                "expected those that the task was made for; give the run, or the features, that it is about"
            )
        table = answer(
            self.vlm, questions, bags, answer_form=self.asking["answer_form"], batch_tokens=self.batch_tokens,
            rotations=self.asking["rotations"],
        ).set_index("ID")  # fmt: skip
        print(f"slidesieve: {len(table)} of {len(questions)} questions are about slides with features", flush=True)
        return {
            q.id: [
                -float(table.at[q.id, f"logp_{c}"]) if q.id in table.index else inf for c in LETTERS[: len(q.options)]
            ]
            for q in questions
        }

    def _bags(self, slides: list[str]) -> Mapping[str, Bag]:
        """Bags of those slides that have features, as stage 60 caps them."""
        if self.run:
            known = self.run.manifest().cases
            return self.run.bags([slide for slide in slides if slide in known])
        return BagView(self.features, common(slides, self.features), most_tiles=self.asking["max_tiles"])

    def _check(self, context: str, question: Question, doc: dict) -> None:
        expected, form = prompt(question), self.asking["answer_form"]
        if context != expected:
            raise ValueError(
                f"slidesieve: asked {context[:80]!r}; expected the question as the run asked it, {expected[:80]!r}; "
                "leave out examples, descriptions and system prompts"
            )
        if doc["choices"] != answers_of(question, form):
            raise ValueError(
                f"slidesieve: options {doc['choices']}; expected the option's {form}, which this model was asked for; "
                "make the task of a run of this model"
            )


def _question(name: str, doc: dict) -> Question:
    return Question(name, doc["slide"], "", "", doc["question"], tuple(doc["options"]), doc["target"])
