"""LoC-Path-style fusion: each question picks latents, and a few decoder layers read them by cross-attention.

The order of the parts is the paper's (arXiv 2512.05391: latents are selected, then fused into a few decoder layers, no
visual prefix); what is inside is our design. Importance of latent i to a question, q its tokens' mean embedding:

    s_i = (W_s z_i)^T (W_t mlp(q)) / sqrt(w) + w^T z_i,      u_i = sigmoid(s_i),      the k largest are kept

Adapter of a chosen layer, between its self-attention and its feed-forward, h the hidden states there (where a family
normalises its attention before adding it, as Gemma 2 and OLMo 2 do, after that norm):

    h <- h + tanh(gamma) r(h) W_o attention(W_q LN(h), W_k LN(z), W_v LN(z); + log u),  r(h) = sigmoid(w_r^T LN(h) + b)

So gradients reach the importance through log u of what is kept, gamma = 0 leaves the language model as it was, bit for
bit, and a token may skip reading. Keys and values of latents are computed once for all questions about a slide and all
decoded tokens. Tokens before a question (the head of the user's turn) and padding read nothing.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from slidesieve.compressors.result import Compressed
from slidesieve.models.chat import IGNORE, Texts
from slidesieve.models.decoder_families import adds_attention, check_residual, decoder_layers
from slidesieve.models.fusion import Fusion
from slidesieve.models.prefix_lm import Prefix

PickedBy = Literal["question", "none"]
N_ADAPTERS = 4


class LatentReader(Fusion):
    """Importance scorer and cross-attention adapters of one language model, which stays untouched itself.

    `adapter_layers`: the decoder layers that read; empty for `n_adapters` of them, evenly spaced. `importance`:
    "question", or "none" to read every latent alike. First `attach`; then `feed` slides and `place` each call's tokens.
    """

    is_prefix = False
    name = "reader"

    def __init__(
        self,
        lm: nn.Module,
        width: int,
        k: int,
        *,
        adapter_layers: Sequence[int] = (),
        n_adapters: int = N_ADAPTERS,
        adapter_width: int = 512,
        adapter_heads: int = 8,
        adapter_gate: float = 0.0,
        router_bias: float = 0.0,
        importance: PickedBy = "question",
    ):
        super().__init__()
        if importance not in get_args(PickedBy):
            raise ValueError(f"importance of latents: got {importance!r}; expected question or none")
        if adapter_width % adapter_heads:
            raise ValueError(
                f"cross-attention adapters: width {adapter_width} is not a multiple of {adapter_heads} heads"
            )
        depth, h = len(decoder_layers(lm)), lm.get_input_embeddings().embedding_dim
        layers = layers_that_read(adapter_layers, n_adapters, depth)
        if not set(layers) <= set(range(depth)):
            raise ValueError(f"cross-attention adapters: got layers {layers}; this decoder has 0 to {depth - 1}")
        self.k, self.layers = k, layers
        self.importance = Importance(h, width) if importance == "question" else None
        shape = (h, width, adapter_width, adapter_heads)
        self.adapters = nn.ModuleList(Adapter(*shape, gate=adapter_gate, router_bias=router_bias) for _ in layers)
        self._reading: Reading | None = None
        self._entered: dict[int, Tensor] = {}

    @classmethod
    def between(cls, lm: nn.Module, compressor: nn.Module, *, d: int, k: int, projector_width: int, **options) -> Self:
        return cls(lm, compressor.width, k, **options)

    @classmethod
    def first_layer(
        cls, depth: int, *, adapter_layers: Sequence[int] = (), n_adapters: int = N_ADAPTERS, **options
    ) -> int:
        return min(layers_that_read(adapter_layers, n_adapters, depth))

    def parts(self) -> dict[str, nn.Module]:
        return {"reader": self}

    def feed(self, lm: nn.Module, compressed: Compressed, texts: Texts) -> Prefix:
        """Read the latents; an empty prefix, whose `place` says which turn each token belongs to."""
        self.read(lm, compressed.tokens, texts)
        none, weight = compressed.positions[:, :0], lm.get_input_embeddings().weight
        embeds = compressed.tokens.new_zeros(len(none), 0, weight.shape[1]).to(weight.dtype)
        return Prefix(embeds, none.bool(), none, none.sum(-1), self.place)

    def attach(self, lm: nn.Module) -> None:
        """Hook the chosen layers. Raises ValueError for a decoder whose attention is not added to what enters it."""
        blocks = decoder_layers(lm)
        check_residual(lm, blocks[self.layers[0]])
        for number, layer in enumerate(self.layers):
            blocks[layer].register_forward_pre_hook(self._entering(number), with_kwargs=True)
            adds_attention(blocks[layer]).register_forward_hook(self._attended(number))

    def read(
        self, lm: nn.Module, latents: Float[Tensor, "b m w"], texts: Texts
    ) -> tuple[Float[Tensor, "b turns m"], Float[Tensor, "b turns m"]]:
        """Take up a batch of slides and their questions; return importance and the log gate (-inf where dropped)."""
        scores = self._scores(lm, latents, texts)
        log_gate = log_gate_of_top(scores, self.k) if self.importance else scores
        self._reading = Reading([a.keys(latents) for a in self.adapters], log_gate, None)
        return scores, log_gate

    def place(self, turn: Int[Tensor, "b l"]) -> None:
        """Say to which turn each token of the next call belongs (IGNORE: it reads nothing)."""
        self._reading = self._reading._replace(turn=turn)

    def _scores(self, lm: nn.Module, latents: Tensor, texts: Texts) -> Float[Tensor, "b turns m"]:
        questions = mean_of_questions(lm.get_input_embeddings()(texts.ids).detach(), texts)
        if self.importance is None:
            return latents.new_zeros(*questions.shape[:2], latents.shape[1])
        return self.importance(latents, questions.to(latents.dtype))

    def _entering(self, number: int):
        def remember(layer, args, kwargs) -> None:
            self._entered[number] = args[0] if args else kwargs["hidden_states"]

        return remember

    def _attended(self, number: int):
        def add(attention, args, output):
            entered = self._entered[number]  # stays: recomputing a block enters it no second time
            if self._reading is None:
                return None
            mixed, *rest = output if isinstance(output, tuple) else (output,)
            read = mixed + self.adapters[number](entered + mixed, *self._reading.of(number))
            return (read, *rest) if isinstance(output, tuple) else read

        return add


class Reading(NamedTuple):
    """What the adapters read just now: keys and values of each, the log gate of each turn, each token's turn."""

    keys: list[tuple[Tensor, Tensor]]
    log_gate: Float[Tensor, "b turns m"]
    turn: Int[Tensor, "b l"] | None

    def of(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bias = self.log_gate.gather(1, self.turn.clamp(min=0).unsqueeze(-1).expand(-1, -1, self.log_gate.shape[-1]))
        return *self.keys[number], bias, self.turn != IGNORE


class Importance(nn.Module):
    """Token importance scorer: how much each latent says about each question."""

    def __init__(self, h: int, width: int):
        super().__init__()
        self.question = nn.Sequential(nn.Linear(h, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.latent, self.asked = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.own = nn.Linear(width, 1, bias=False)

    def forward(self, z: Float[Tensor, "b m w"], questions: Float[Tensor, "b turns h"]) -> Float[Tensor, "b turns m"]:
        z = self.norm(z)
        match = self.asked(self.question(questions)) @ self.latent(z).mT / math.sqrt(z.shape[-1])
        return match + self.own(z).mT


class Adapter(nn.Module):
    """Cross-attention routing adapter of one decoder layer: what is added to its hidden states."""

    def __init__(self, h: int, width: int, inner: int, heads: int, *, gate: float, router_bias: float):
        super().__init__()
        self.heads = heads
        self.norm, self.norm_latents = nn.LayerNorm(h), nn.LayerNorm(width)
        self.query, self.key_value, self.out = nn.Linear(h, inner), nn.Linear(width, 2 * inner), nn.Linear(inner, h)
        self.router = nn.Linear(h, 1)
        self.gate = nn.Parameter(torch.tensor(float(gate)))
        nn.init.constant_(self.router.bias, router_bias)

    def keys(self, latents: Float[Tensor, "b m w"]) -> tuple[Float[Tensor, "b a m e"], Float[Tensor, "b a m e"]]:
        parts = self.key_value(self.norm_latents(latents)).chunk(2, -1)
        return tuple(rearrange(part, "b m (a e) -> b a m e", a=self.heads) for part in parts)

    def forward(self, hidden, key, value, bias: Float[Tensor, "b l m"], reads) -> Float[Tensor, "b l h"]:
        h = self.norm(hidden.to(self.norm.weight.dtype))
        query = rearrange(self.query(h), "b l (a e) -> b a l e", a=self.heads)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.unsqueeze(1).to(query.dtype))
        read = self.out(rearrange(seen, "b a l e -> b l (a e)"))
        routed = self.router(h).sigmoid() * reads.unsqueeze(-1)
        return (self.gate.tanh() * routed * read).to(hidden.dtype)


def log_gate_of_top(scores: Float[Tensor, "b turns m"], k: int) -> Float[Tensor, "b turns m"]:
    """log sigmoid of the min(k, m) largest scores, -inf elsewhere."""
    best = scores.topk(min(k, scores.shape[-1]), dim=-1).indices
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
    return F.logsigmoid(scores).masked_fill(~kept, -math.inf)


def mean_of_questions(embeds: Float[Tensor, "b t h"], texts: Texts) -> Float[Tensor, "b turns h"]:
    """Mean embedding of each turn's prompt; answers are not looked at."""
    turns = torch.arange(int(texts.turn.max()) + 1, device=embeds.device)
    asked = ((texts.turn.unsqueeze(1) == turns[:, None]) & (texts.answer == IGNORE).unsqueeze(1)).to(embeds.dtype)
    return asked @ embeds / asked.sum(-1, keepdim=True).clamp(min=1)


def layers_that_read(chosen: Sequence[int], n: int, depth: int) -> tuple[int, ...]:
    """The layers that were chosen; else n of them, evenly spaced."""
    return tuple(chosen) or evenly_spaced(n, depth)


def evenly_spaced(n: int, depth: int) -> tuple[int, ...]:
    """The middles of n equal parts of a decoder: 3, 10, 17, 24 of 28."""
    n = min(n, depth)
    return tuple((2 * i + 1) * depth // (2 * n) for i in range(n))
