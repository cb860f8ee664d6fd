"""One batch of a training: what may change, what is summed, and where every random number comes from."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from slidesieve.models.vlm import VLM
from slidesieve.training.feed import Feed
from slidesieve.training.state import check_finite, seed_of

CLIP = 1.0  # of the gradient's norm, in every stage


class Settings(NamedTuple):
    """What an optimiser needs: a learning rate for each named module, and the usual rest."""

    rates: dict[str, float]  # by first part of a parameter's name: "slide_encoder", "compressor", "projector", "lm"
    weight_decay: float
    warmup: float  # optimiser steps of rising learning rate; below 1: a share of all
    clip: float
    lr_end: float = 0.1  # last learning rate, as a share of the peak: it falls along a half cosine
    accumulate: int = 1  # batches summed into one optimiser step
    batch_tokens: int = 65536  # tokens that go through the model at once, padding included: a batch is split by them
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW's
    mixed_precision: str = "no"  # "no" or "bf16"
    gradient_checkpointing: bool = False  # recompute the language model's blocks in the backward pass
    deterministic: bool = True  # on a GPU: the same seed gives the same weights, bit for bit


class Work(Protocol):
    """What is learnt: a number of batches, and the gradients of each."""

    steps: int

    def check_shards(self, shards: int) -> None:
        """Raise ValueError if a batch cannot be divided over so many processes."""

    def gradients(
        self, accelerator: Accelerator, trained: nn.Module, settings: Settings, *, seed: int, step: int, together: range
    ) -> float:
        """Add this process's share of a batch to the gradients; return the batch's loss, a mean over all processes.

        `together` are the batches of one optimiser step. Whatever is drawn comes from seed, step and process alone.
        """


def settings_of(parameters: dict, rates: dict[str, float], model: VLM) -> Settings:
    """The settings that a notebook's parameters of the same names give.

    A part of the model's fusion that has no rate of its own learns at the projector's.
    """
    rates = {**dict.fromkeys(model.fusion.parts(), rates["projector"]), **rates}
    named = {name: parameters[name] for name in Settings._fields if name in parameters}
    return Settings(**named, rates=rates, clip=CLIP, betas=(parameters["beta1"], parameters["beta2"]))


def parameter_groups(model: nn.Module, rates: dict[str, float]) -> list[dict]:
    """Parameters that may be trained, by the first part of their names; a part with no rate, or rate 0, is frozen."""
    groups = {part: [] for part, rate in rates.items() if rate}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        if part not in groups:
            parameter.requires_grad_(False)
        elif parameter.requires_grad:
            groups[part].append(parameter)
    return [{"params": groups[part], "lr": rate} for part, rate in rates.items() if groups.get(part)]


def set_modes(model: nn.Module, rates: dict[str, float]) -> None:
    """What learns in training mode, what is frozen in evaluation mode: no dropout there.

    Blocks that are recomputed only look at their own flag, which says nothing of the dropout within them.
    """
    for name, part in model.named_children():
        part.train(bool(rates.get(name)))
    for block in model.modules():
        if getattr(block, "gradient_checkpointing", False):
            block.training = True


@contextmanager
def recomputing(lm: nn.Module | None, on: bool) -> Iterator[None]:
    """Keep only what enters each block of the language model, and compute the rest again in the backward pass."""
    verb = "activation" if hasattr(lm, "activation_checkpointing_enable") else "gradient"  # older ones name it so
    if on:
        getattr(lm, f"{verb}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        if on:
            getattr(lm, f"{verb}_checkpointing_disable")()
            lm.disable_input_require_grads()  # its hook on the embeddings would stay


def one_batch(
    accelerator: Accelerator, trained: nn.Module, optimizer, work: Work, settings: Settings, seed: int, step: int
) -> tuple[float, bool]:
    """One batch: its loss, a mean over all processes, and whether an optimiser step ended with it.

    Raises NotFiniteError, on all processes alike and before any weight is changed, if the loss or the gradient's norm
    is no number.
    """
    first = step - step % settings.accumulate
    together = range(first, min(first + settings.accumulate, work.steps))
    ends = step == together[-1]
    loss = work.gradients(accelerator, trained, settings, seed=seed, step=step, together=together)
    check_finite("loss", loss, step)
    if ends:
        check_finite("gradient's norm", float(accelerator.clip_grad_norm_(trained.parameters(), settings.clip)), step)
        optimizer.step()
        optimizer.zero_grad()
    return loss, ends


class AnswerLoss:
    """Mean negative log-probability of all answer tokens of an optimiser step, and the compressor's own loss."""

    def __init__(self, feed: Feed):
        self.feed, self.steps, self.check_shards = feed, feed.steps, feed.check_shards

    def gradients(
        self, accelerator: Accelerator, trained: nn.Module, settings: Settings, *, seed: int, step: int, together: range
    ) -> float:
        rank, processes, device = accelerator.process_index, accelerator.num_processes, accelerator.device
        noise = seed_of(seed, step, rank)
        torch.manual_seed(noise)  # dropout
        generator = torch.Generator(device).manual_seed(noise)
        tokens = sum(self.feed.answer_tokens(i) for i in together)
        parts = self.feed.parts(step, rank, processes, batch_tokens=settings.batch_tokens)
        sums = []
        for part in parts:
            batch, texts = part.tensors()
            with nullcontext() if step == together[-1] and part is parts[-1] else accelerator.no_sync(trained):
                with torch.autocast(device.type, torch.bfloat16, enabled=settings.mixed_precision == "bf16"):
                    log_probs, aux_loss = trained(batch.to(device), texts.to(device), generator)
                log_prob, aux = log_probs.sum(), aux_loss * part.weight
                accelerator.backward(aux / len(together) - log_prob * processes / tokens)  # gradients are averaged
            sums.append(torch.stack([log_prob.detach(), aux.detach()]))
        log_prob, aux = accelerator.reduce(torch.stack(sums).sum(0), "sum").tolist()
        return aux / processes - log_prob / self.feed.answer_tokens(step)
