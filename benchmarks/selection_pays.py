"""What a selection could win for a reader as it is: its answers when it is handed other tokens of the same bags.

    python -m benchmarks.selection_pays STAGE MOSAICS LANGUAGE_MODEL [K]

STAGE is the folder of a stage 40 or 50 of `all`, MOSAICS one of 07_make_mosaics. The piece is the one whose subtype is
asked about; the rest share what is left of the budget of K:

    clean           every token as it is
    even            SparseLearn's gate with alpha = K / n everywhere: where its scorer begins
    piece 0.2 ...   the gate with this alpha on the piece: what a scorer would be paid for on its way
    piece           the tokens of the piece alone, clean: an oracle's selection

Right answers to the validation bags' questions, by what is asked; the gate's rows are means over DRAWS of its noise.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from slidesieve.answers.answering import answer
from slidesieve.cohort.manifest import read_manifest
from slidesieve.cohort.splits import split_of
from slidesieve.compressors.baselines import AllTiles
from slidesieve.compressors.result import Compressed, keep_tiles
from slidesieve.compressors.sparselearn import vp_gate
from slidesieve.datasets.mosaic_sources import by_token
from slidesieve.datasets.mosaics import SUBTYPE
from slidesieve.datasets.questions import LETTERS, read_questions
from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import load_available_bags
from slidesieve.models.checkpoints import load_model

DRAWS, ALPHAS = 3, (0.2, 0.5, 1.0)


class Handed(AllTiles):
    """All tiles through the gate, or the marked ones alone; a tile is marked by its second coordinate.

    `alpha` is that of the marked ones; 0: as much as of every other; None: no gate.
    """

    def __init__(self, k: int, *, alpha: float | None, alone: bool = False):
        super().__init__(0)
        self.k, self.alpha, self.alone = k, alpha, alone
        self.noise = torch.Generator()

    def forward(self, x: Tensor, coords: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Compressed:
        marked = (coords[..., 1] > 0) & mask
        if self.alone:
            kept = torch.where(marked, torch.arange(x.shape[1]), x.shape[1]).sort(-1).values[:, : marked.sum(-1).max()]
            return keep_tiles(x, kept.clamp(max=x.shape[1] - 1), kept < x.shape[1], mask)
        if self.alpha is not None:
            n, m = mask.sum(-1, keepdim=True), marked.sum(-1, keepdim=True)
            own = self.alpha or self.k / n
            left = ((self.k - own * m) / (n - m)).clamp(min=0)
            x = vp_gate(F.layer_norm(x, x.shape[-1:]), torch.where(marked, own, left).float(), self.noise)
        return super().forward(x, coords, mask)


def main() -> None:
    stage, cohort, lm = map(Path, sys.argv[1:4])
    k = int(sys.argv[4]) if len(sys.argv) > 4 else 8
    manifest, owned = read_manifest(cohort / "manifest.csv"), pd.read_csv(cohort / "owners.csv")
    split = split_of(manifest)
    asked = [q for q in read_questions(cohort / "questions.csv") if split[q.slide_id] == "val"]
    pieces = by_token(owned[owned["role"] == SUBTYPE]).groupby("slide_id")["index"].agg(list)
    bags = {}
    for slide, bag in load_available_bags(manifest, None, sorted({q.slide_id for q in asked})).items():
        place = np.arange(len(bag.x))
        marked = np.isin(place, pieces[slide])
        bags[slide] = make_bag(slide, bag.x, np.stack([place, marked], 1), {})
    model = load_model(stage / "model", str(lm))
    ways = {"clean": Handed(k, alpha=None), "even": Handed(k, alpha=0.0)}
    ways |= {f"piece {alpha}": Handed(k, alpha=alpha) for alpha in ALPHAS}
    ways["piece"] = Handed(k, alpha=None, alone=True)
    rows = {}
    for name, way in ways.items():
        model.compressor, found = way, []
        for draw in range(DRAWS if way.alpha is not None else 1):
            way.noise.manual_seed(draw)
            said = answer(model, asked, bags, answer_form="text", batch_tokens=65536).set_index("ID")["predicted"]
            found += [(q.kind, said[q.id] == LETTERS[q.answer]) for q in asked]
        table = pd.DataFrame(found, columns=["asked", "right"])
        rows[name] = table.groupby("asked")["right"].mean()
        rows[name]["all"] = table["right"].mean()
    print(f"{len(asked)} questions about {len(bags)} validation bags, k = {k}")
    print(pd.DataFrame(rows).T.round(2).to_string())


if __name__ == "__main__":
    main()
