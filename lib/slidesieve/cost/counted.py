"""Operations of a part that has no closed form here, as PyTorch's counter sees them: none is taken for free.

A part is run on noise of a few lengths; one that may stop early goes on to its last step: that is the most it costs.
Operations grow with tokens and with pairs of tokens, so that a parabola through the counts holds for every length; its
square terms are what lies between pairs. A fusion may also work inside the language model: it is counted as the
difference that it makes to a decoder of the given sizes, whose weights take no memory and whose products are looked at
for their shapes alone.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Qwen2Config

from slidesieve.answers.decoding import greedy
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.compressors.result import Compressed, keep_tiles
from slidesieve.cost.methods import Decoder, Method, Sizes
from slidesieve.models.chat import Turn, pack
from slidesieve.models.longnet import SLIDE_ENCODERS
from slidesieve.models.options import own_options
from slidesieve.models.prefix_lm import Prefix

SHORTEST, FEW = 64, 16  # tiles of the shortest slide; tokens of the shortest text, and of a slide behind it
MULTIPLES = ((1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 2))  # of these: as many as a parabola in both has terms
ATEN = torch.ops.aten
PRODUCTS = {ATEN.mm.default, ATEN.addmm.default, ATEN.bmm.default, ATEN.baddbmm.default}
Options = tuple[tuple[str, object], ...]
NO_OPTIONS: Mapping[str, object] = MappingProxyType({})


def counted(
    name: str, *, d: int, k: int, n: int, training: bool, options: Mapping[str, object] = NO_OPTIONS
) -> tuple[int, int]:
    """Operations of a compressor on n tiles of width d that are linear in n, and those between pairs.

    Of `options` it takes its own.
    """
    made = COMPRESSORS[name]
    return _divided(_of_compressor(made, d, k, training, _own(made, options)) * [n**2, n, 1], 1)


def counted_encoder(name: str, *, d: int, n: int) -> tuple[int, int]:
    """The same of a slide encoder."""
    return _divided(_of_encoder(SLIDE_ENCODERS[name], d) * [n**2, n, 1], 1)


def counted_fusion(method: Method, lm: Decoder, sizes: Sizes, *, m: int, width: int) -> tuple[int, int]:
    """The same of what carries m tokens of this width into a language model, which reads them and a text."""
    shape = (sizes.d, sizes.k, sizes.projector_width, width)
    made, before = method.carried_by, method.made_by
    found = _of_fusion(made, before, lm, shape, _own(made, sizes.options), _own(before, sizes.options))
    return _divided(found * _terms(m / _shortest(sizes.k, FEW), sizes.text / FEW), 3)


def _own(made: type[nn.Module], options: Mapping[str, object]) -> Options:
    """The options that a class knows, as a key to what was counted before."""
    own = own_options(made, options).items()
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in own)


@lru_cache(maxsize=64)
def _of_compressor(made: type[nn.Module], d: int, k: int, training: bool, options: Options) -> np.ndarray:
    part = made(d, k, seed=0, **dict(options)).train(training)
    if hasattr(part, "stops_early"):
        part.stops_early = False

    def run(n: int) -> int:
        x, steps = _noise(n, d), 224 * torch.arange(n)
        coords = torch.stack([steps % 2240, steps // 10], -1)[None]
        generator = torch.Generator().manual_seed(0)
        return _count(lambda: part(x, coords, torch.ones(1, n, dtype=torch.bool), generator))

    return _parabola(run, _shortest(k, SHORTEST))


@lru_cache(maxsize=64)
def _of_encoder(made: type[nn.Module], d: int) -> np.ndarray:
    with torch.random.fork_rng(devices=[]):
        part = made(d).eval()
    return _parabola(lambda n: _count(lambda: part(_noise(n, d), torch.ones(1, n, dtype=torch.bool))), SHORTEST)


@lru_cache(maxsize=64)
def _of_fusion(
    made: type[nn.Module],
    compressor: type[nn.Module],
    lm: Decoder,
    shape: tuple[int, int, int, int],
    options: Options,
    options_before: Options,
) -> np.ndarray:
    d, k, projector_width, width = shape
    alone, changed = hollow(lm), hollow(lm)
    with torch.random.fork_rng(devices=[]):
        before = compressor(d, k, seed=0, **dict(options_before))
        size = {"d": d, "k": k, "projector_width": projector_width}
        fusion = made.between(changed, before, **size, **dict(options)).eval()

    def added(m: int, t: int) -> int:
        tokens, turn = _every_token(m, width), Turn([0] * (t - 1), [])

        def feed() -> Prefix:
            return fusion.feed(changed, tokens, pack([[turn]]))

        def pass_through(decoder: nn.Module, prefix: Prefix) -> None:
            greedy(decoder, [0], prefix, [turn.prompt], stops=set(), most=1)

        prefix = feed()._replace(place=None)
        return _count(lambda: pass_through(changed, feed())) - _count(lambda: pass_through(alone, prefix))

    with torch.no_grad(), Unmultiplied():
        fusion.attach(changed)
        counts = [added(_shortest(k, FEW) * a, FEW * b) for a, b in MULTIPLES]
    return np.linalg.solve([_terms(*at) for at in MULTIPLES], counts)


class Unmultiplied(TorchDispatchMode):
    """Products of matrices come out as zeros of the right shape."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in PRODUCTS:
            left, right = args[-2:]
            return left.new_zeros(*left.shape[:-1], right.shape[-1])
        return func(*args, **(kwargs or {}))


def hollow(lm: Decoder) -> nn.Module:
    """A decoder of these sizes, each of its weights one number: it takes no memory, and knows few words."""
    config = Qwen2Config(
        vocab_size=8, hidden_size=lm.width, intermediate_size=lm.ffn, num_hidden_layers=lm.layers,
        num_attention_heads=lm.heads, num_key_value_heads=lm.kv_heads, head_dim=lm.inner // lm.heads,
    )  # fmt: skip
    with init_empty_weights():
        made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    for part in made.modules():
        for name, weight in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(torch.zeros(()).expand(weight.shape), requires_grad=False))
    return made


def _every_token(m: int, width: int) -> Compressed:
    """Noise as a compressor hands it on, with all that a fusion may ask for."""
    x, mask = _noise(m, width), torch.ones(1, m, dtype=torch.bool)
    return keep_tiles(x, torch.arange(m)[None], mask, mask)._replace(scores=x[..., 0])


def _noise(n: int, d: int) -> Tensor:
    return torch.randn(1, n, d, generator=torch.Generator().manual_seed(0))


def _count(call: Callable[[], object]) -> int:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def _parabola(run: Callable[[int], int], shortest: int) -> np.ndarray:
    """Factors of n^2, n and 1."""
    lengths = shortest * np.arange(1, 4)
    return np.polyfit(lengths, [run(int(length)) for length in lengths], 2)


def _terms(m: float, t: float) -> np.ndarray:
    return np.array([m * m, m * t, t * t, m, t, 1])


def _divided(terms: np.ndarray, squares: int) -> tuple[int, int]:
    """What is linear, and the squares, which stand first."""
    pairs = max(round(terms[:squares].sum()), 0)
    return max(round(terms.sum()) - pairs, 0), pairs


def _shortest(k: int, least: int) -> int:
    return max(least, 2 * k)
