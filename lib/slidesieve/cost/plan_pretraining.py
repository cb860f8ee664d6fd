"""What masked pre-training (notebook 30) will cost, in closed form. It has no language model: its tokens are tiles."""

import math
from collections.abc import Mapping

import torch

from slidesieve.compressors.locpath import LoCPath
from slidesieve.cost import flops
from slidesieve.cost.methods import Sizes
from slidesieve.cost.plan_cost import ON_DISK_BYTES, PARAMETER_BYTES, Cost, mean
from slidesieve.cost.plan_memory import KEPT
from slidesieve.cost.plan_work import Data, Work
from slidesieve.models.options import options_of
from slidesieve.training.feed import batches
from slidesieve.training.masked import Decoder


def pretraining_cost(values: Mapping[str, object], data: Data) -> Cost:
    """The cost of a stage of notebook 30; every validation sees the same slides."""
    train, held, batch = data.work["train"], data.work["validation"], int(values["mae_batch"])
    steps = batches(
        range(train.n), batch=batch, epochs=float(values["mae_epochs"]), steps=int(values["mae_steps"]), accumulate=1
    )
    times, learnt = min(int(values["evaluations"]), steps), parameters(values, data.d)
    longest = min(max((item.tiles for work in (train, held) for item in work.sample), default=0), values["max_tiles"])
    seen, checked = steps * batch, times * min(int(values["validation_slides"]) or held.n, held.n)
    return Cost(
        steps,
        round(seen * _tiles(train, values)),
        round(checked * _tiles(held, values)),
        learnt * ON_DISK_BYTES,
        16 * learnt + 4 * batch * longest * data.d * (1 + KEPT["locpath"]),
        round(3 * seen * _operations(train, values, data.d) + checked * _operations(held, values, data.d)),
        learnt * PARAMETER_BYTES,
        None,
        data.assumed,
    )


def parameters(values: Mapping[str, object], d: int) -> int:
    """Parameters of the compressor and of the decoder that is thrown away."""
    own = {name: values[name] for name in options_of(LoCPath) if name in values}
    with torch.device("meta"):
        made = LoCPath(d, int(values["latents"]), seed=0, **own)
        asks = Decoder(d, made.width, int(values["decoder_blocks"]), int(values["resampler_heads"]))
    return sum(p.numel() for module in (made, asks) for p in module.parameters())


def _tiles(work: Work, values: Mapping[str, object]) -> float:
    return mean(work, lambda item: min(item.tiles, values["max_tiles"]))


def _operations(work: Work, values: Mapping[str, object], d: int) -> float:
    known = {name: values[name] for name in ("latents", "latent_width", "resampler_blocks")}
    shape = {"blocks": int(values["decoder_blocks"]), "mask_ratio": float(values["mask_ratio"])}

    def of_slide(n: int) -> int:
        sizes = Sizes(n, 0, 0, d=d, windows=math.ceil(n / int(values["window"]) ** 2), **known)
        return flops.masked_autoencoder(sizes, **shape).total

    return mean(work, lambda item: of_slide(min(item.tiles, values["max_tiles"])))
