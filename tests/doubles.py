"""Arithmetic in float64 throughout, casts to float32 included: a difference above 1e-9 is then no rounding."""

import pytest
import torch


def compute_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a float64 tensor stay one where code asks for float32 (norms, log-probabilities)."""
    cast = torch.Tensor.to

    def stays(tensor, *given, **named):
        asked = (*given, *named.values())
        return tensor if tensor.dtype == torch.float64 and torch.float32 in asked else cast(tensor, *given, **named)

    monkeypatch.setattr(torch.Tensor, "to", stays)
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: stays(tensor, torch.float32))


def take_float64(module: torch.nn.Module) -> torch.nn.Module:
    """Turn a module and what it is given into float64: bags are float32."""

    def doubled(_, given):
        return tuple(x.double() if torch.is_tensor(x) and x.is_floating_point() else x for x in given)

    module.double().register_forward_pre_hook(doubled)
    return module
