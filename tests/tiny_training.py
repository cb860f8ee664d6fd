"""A training without a purpose, in milliseconds: its state is that of the real ones."""

import torch
from torch import nn

from slidesieve.training.state import RunState


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.learns, self.frozen = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.ones(4096), requires_grad=False)


def train(checkpoint, *, steps: int):
    """Each second step is validated, the score is best after step 6; return where it began, and how it stands."""
    model = Model()
    optimizer = torch.optim.AdamW([model.learns], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    state = RunState.resume(checkpoint, model, optimizer, schedule)
    began = state.step
    while state.step < steps:
        (model.learns * torch.arange(5.0)).sum().add(state.step).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        state.note(float(model.learns.detach().sum()) / 3, schedule.get_last_lr()[0])
        if state.step % 2 == 0:
            state.judge(model, lambda model, share: -abs(state.step - 6) / 7, lambda model, share: {"mass": 1 / 3})
        state.save_if_due(model, optimizer, schedule, minutes=0)
    return began, state
