"""The baselines that a learned compressor must beat: all tiles, random-k, linspace-k, mean pooling, no slide at all."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from slidesieve.compressors.result import Compressed, Compressor, keep_tiles, one_tile_each
from slidesieve.compressors.rows import stretches
from slidesieve.compressors.topk import hard_topk
from slidesieve.compressors.untrained.hashed import tile_hash


class AllTiles(Compressor):
    """Keep every tile (SlideChat's long prefix). `k` is ignored."""

    kind = "passes through"

    def __init__(self, d: int, k: int = 0, *, seed: int = 0):
        super().__init__()

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, **options) -> int:
        return n

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        every = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        none = keep_tiles(x, every[:, :0], mask[:, :0], mask)
        return none._replace(
            tokens=x if mask.all() else x * mask.unsqueeze(-1),
            mask=mask,
            positions=every * mask,
            weights=one_tile_each(every, mask, torch.ones_like(every, dtype=torch.float32), n=x.shape[1]),
            kept=every,
            places=every,
        )


class RandomK(Compressor):
    """Keep k tiles drawn without replacement: anew at each training step, fixed by `seed` and the tile in evaluation.

    In evaluation a tile's rank is a hash of its features, place and the seed: neither padding, batch-mates nor the
    order of the tiles change the draw.
    """

    kind = "selects"

    def __init__(self, d: int, k: int, *, seed: int = 0):
        super().__init__()
        self.k, self.seed = k, seed

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        if self.training:
            rank = torch.rand(mask.shape, generator=generator, device=x.device)
        else:
            rank = tile_hash(x, self.seed, coords).float()
        return keep_tiles(x, *hard_topk(rank, self.k, mask), mask)


class LinspaceK(Compressor):
    """Keep k tiles evenly spaced in the bag's order, first and last included (SlideChat's cap)."""

    kind = "selects"

    def __init__(self, d: int, k: int, *, seed: int = 0):
        super().__init__()
        self.k = k

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        m = min(self.k, x.shape[1])
        step = torch.arange(m, device=x.device)
        count = mask.sum(-1, keepdim=True)
        short = count <= m
        spaced = (step * (count - 1)).div(max(m - 1, 1), rounding_mode="floor")
        kept = torch.where(short, torch.minimum(step, (count - 1).clamp(min=0)), spaced)
        return keep_tiles(x, kept, torch.where(short, step < count, True), mask)


class MeanPool(Compressor):
    """Average the tiles and read the mean through k linear maps, so that the language model gets k tokens here too."""

    kind = "pools"

    def __init__(self, d: int, k: int, *, seed: int = 0):
        super().__init__()
        self.k = k
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.expand = nn.Linear(d, k * d)

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, **options) -> int:
        return k

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        b, n, d = x.shape
        count = mask.sum(-1).clamp(min=1)
        total = sum((x[:, some] * mask[:, some].unsqueeze(-1)).sum(1) for some in stretches(n))
        mean = total / count.unsqueeze(-1)
        step = torch.arange(self.k, device=x.device).expand(b, self.k)
        return Compressed(
            tokens=self.expand(mean).view(b, self.k, d),
            mask=torch.ones_like(step, dtype=torch.bool),
            positions=step,
            span=torch.full_like(count, self.k),
            weights=(mask / count.unsqueeze(-1)).unsqueeze(1).expand(b, self.k, n),
            aux_loss=x.new_zeros(()),
        )


class TextOnly(Compressor):
    """Keep nothing: the language model sees the question alone. A floor, trained like every other method."""

    kind = "sees nothing"

    def __init__(self, d: int, k: int = 0, *, seed: int = 0):
        super().__init__()

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, **options) -> int:
        return 0

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        nothing = torch.zeros(x.shape[0], 0, dtype=torch.long, device=x.device)
        return keep_tiles(x, nothing, nothing.bool(), mask)._replace(span=torch.zeros_like(mask.sum(-1)))


class Blank(Compressor):
    """Hand on k learned tokens, the same for every slide: what can be learnt without one, be the model frozen or not.

    Where the language model is frozen `TextOnly` learns nothing and is no floor; this is.
    """

    kind = "sees nothing"

    def __init__(self, d: int, k: int, *, seed: int = 0):
        super().__init__()
        drawn = torch.randn(k, d, generator=torch.Generator().manual_seed(seed))
        self.learned = nn.Parameter(drawn)  # as wide as standardised features

    @classmethod
    def has_k(cls) -> bool:
        return True

    @classmethod
    def n_tokens(cls, n: int, k: int, *, training: bool = False, **options) -> int:
        return k

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> Compressed:
        b, n, _ = x.shape
        k = len(self.learned)
        step = torch.arange(k, device=x.device).expand(b, k)
        return Compressed(
            tokens=self.learned.expand(b, -1, -1),
            mask=torch.ones_like(step, dtype=torch.bool),
            positions=step,
            span=torch.full_like(step[:, 0], k),
            weights=x.new_zeros(()).expand(b, k, n),
            aux_loss=x.new_zeros(()),
        )
