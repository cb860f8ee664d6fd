"""LongNet's dilated attention against loops written from its equations, and the encoder's size and invariances."""

import math

import pytest
import torch
import torch.nn.functional as F

from slidesieve.models.longnet import (
    DILATIONS,
    SEGMENTS,
    LongNet,
    LongNetReleased,
    branch_weights,
    dilated_attention,
    head_offsets,
)

HEADS, WIDTH = 6, 4


def qkv(n: int, heads: int = HEADS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(n, heads, WIDTH, dtype=torch.float64, generator=generator) for _ in range(3)]


def encoder(d: int = 24, *, heads: int = 4, segments=(4, 8, 16), dilations=(1, 2, 4)) -> LongNet:
    torch.manual_seed(0)
    return LongNet(d, heads=heads, segments=segments, dilations=dilations).double().eval()


def naive(q, k, v, branches):
    """For each token and head: softmax in its segment over the tokens its head keeps; branches mixed by their mass."""
    n, heads, width = q.shape
    out = torch.zeros_like(q)
    for i in range(n):
        for h in range(heads):
            outputs, masses = [], []
            for w, r in branches:
                w = min(w, n)
                first = i // w * w
                group = h // math.ceil(heads / r)
                kept = [j for j in range(first, min(first + w, n)) if (j - first) % r == group]
                if i in kept:
                    scores = torch.stack([q[i, h] @ k[j, h] for j in kept]) / math.sqrt(width)
                    outputs.append(sum(p * v[j, h] for p, j in zip(scores.softmax(0), kept, strict=True)))
                    masses.append(scores.exp().sum())
            out[i, h] = sum(m * o for m, o in zip(masses, outputs, strict=True)) / sum(masses)
    return out


@pytest.mark.parametrize("n", [1, 2, 7, 16, 37])
@pytest.mark.parametrize("branches", [((8, 1),), ((8, 1), (16, 2)), ((4, 1), (8, 2), (16, 4), (32, 8))])
def test_dilated_attention_is_the_equation(n, branches):
    assert (dilated_attention(*qkv(n), branches) - naive(*qkv(n), branches)).abs().max() < 1e-12


@pytest.mark.parametrize("n", [5, 33])
def test_one_branch_over_everything_is_full_attention(n):  # I44
    q, k, v = qkv(n)
    full = F.scaled_dot_product_attention(*(x.transpose(0, 1) for x in (q, k, v))).transpose(0, 1)
    assert (dilated_attention(q, k, v, ((n + 3, 1),)) - full).abs().max() < 1e-14


def test_branch_weights_are_shares_without_gradient():  # I44
    lse = torch.randn(5, 9, 3, dtype=torch.float64, requires_grad=True)
    weights = branch_weights(lse)
    assert (weights.sum(0) - 1).abs().max() < 1e-14 and not weights.requires_grad
    skipped = lse.detach().clone()
    skipped[1] = -1e8
    assert branch_weights(skipped)[1].abs().max() == 0


def test_heads_are_split_into_groups_with_offsets_of_their_own():
    assert head_offsets(8, 1).tolist() == [0] * 8
    assert head_offsets(8, 2).tolist() == [0] * 4 + [1] * 4
    assert head_offsets(8, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert head_offsets(8, 16).tolist() == list(range(8))


def test_the_published_encoder_has_its_published_size():
    assert SEGMENTS == (1024, 2048, 4096, 8192, 16384) and DILATIONS == (1, 2, 4, 8, 16)
    attention, ffn, norms = 4 * (512 * 512 + 512), 2 * 512 * 1024 + 1024 + 512, 3 * 1024 + 2048
    assert sum(p.numel() for p in LongNet(512).parameters()) == 2 * (attention + ffn + norms) + 1024 == 4_212_736


def test_padding_and_batch_mates_change_nothing():
    model = encoder()
    x = torch.randn(3, 21, 24, dtype=torch.float64)
    mask = torch.arange(21) < torch.tensor([[21], [9], [1]])
    together = model(x, mask)
    for i, n in enumerate((21, 9, 1)):
        alone = model(x[i : i + 1, :n], mask[i : i + 1, :n])
        assert (together[i, :n] - alone[0]).abs().max() < 1e-12
        assert together[i, n:].abs().sum() == 0


def test_its_output_is_normalised_and_its_weights_get_gradients():
    model = encoder()
    x = torch.randn(2, 19, 24, dtype=torch.float64)
    out = model(x, torch.ones(2, 19, dtype=torch.bool))
    assert out.mean(-1).abs().max() < 1e-12 and (out.var(-1, correction=0) - 1).abs().max() < 1e-3
    (out * torch.randn(out.shape, dtype=torch.float64)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_dropout_acts_in_training_only():
    model, x, mask = encoder(), torch.randn(1, 9, 24, dtype=torch.float64), torch.ones(1, 9, dtype=torch.bool)
    assert torch.equal(model(x, mask), model(x, mask))
    model.train()
    assert not torch.equal(model(x, mask), model(x, mask))


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 50 is not a multiple of 8 heads"):
        LongNet(50)


# --- as it was released: every tile a sequence of one


def released(d: int = 24, heads: int = 4) -> LongNetReleased:
    torch.manual_seed(0)
    return LongNetReleased(d, heads=heads).double().eval()


def test_the_released_encoder_is_the_papers_on_one_tile_after_another():
    net, paper = released(), LongNet(24, heads=4).double().eval()
    paper.load_state_dict(net.state_dict())  # strict: the same names and shapes
    x, mask = torch.randn(2, 17, 24, dtype=torch.float64), torch.ones(2, 17, dtype=torch.bool)
    mask[1, 11:] = False
    out = net(x, mask)
    for b, n in ((0, 17), (1, 11)):
        for i in range(n):
            one = paper(x[b : b + 1, i : i + 1], torch.ones(1, 1, dtype=torch.bool))
            assert (out[b, i] - one[0, 0]).abs().max() < 1e-12
    assert (out[1, 11:] == 0).all()


def test_the_released_encoder_never_mixes_tiles():
    net, mask = released(), torch.ones(1, 17, dtype=torch.bool)
    x = torch.randn(1, 17, 24, dtype=torch.float64)
    other = x.clone()
    other[0, 5] *= -1
    apart = (net(x, mask) - net(other, mask))[0].abs().amax(-1)
    assert apart[5] > 0.1 and (apart[torch.arange(17) != 5] == 0).all()


def test_the_released_encoder_has_the_papers_parameters_and_its_own_first_weights():
    torch.manual_seed(0)
    net, paper = LongNetReleased(512), LongNet(512)
    assert {n: p.shape for n, p in net.named_parameters()} == {n: p.shape for n, p in paper.named_parameters()}
    assert sum(p.numel() for p in net.parameters()) == 4_212_736
    layer, bound = net.layers[0], 1 / math.sqrt(512)
    for part in layer.qkv.weight.detach().chunk(3):  # nn.Linear's own: uniform up to 1 / sqrt d
        assert bound * 0.99 < part.abs().max() <= bound
        assert float(part.std()) == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert layer.qkv.bias.abs().max() > 0.9 * bound
    assert float(layer.out.weight.detach().std()) == pytest.approx(math.sqrt(math.log(4) / 512), rel=0.01)  # Xavier's
    net(torch.randn(1, 5, 512), torch.ones(1, 5, dtype=torch.bool)).square().sum().backward()
    assert (layer.qkv.weight.grad[:1024] == 0).all() and layer.qkv.weight.grad[1024:].abs().max() > 0


def test_drop_path_is_drawn_once_a_tile_as_released():
    net = LongNetReleased(24, heads=4, dropout=0.0, drop_path=0.5).train()
    x, mask = torch.randn(1, 1, 24).expand(1, 400, 24), torch.ones(1, 400, dtype=torch.bool)
    torch.manual_seed(1)
    kinds = net(x, mask)[0].round(decimals=3).unique(dim=0)
    assert len(kinds) == 4  # attention and feed-forward of the second layer, each there or not
