"""A causal Transformer as a memory: what it remembers are the keys and values of its last steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.maths.params import Params
from metarl.networks.layers import linear, orthogonal

_ROTARY_BASE = 10_000.0
_LEAST_CAPACITY = 16  # steps of a new cache

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries, keys, values), all ``[N, S, heads, d]`` ↦ what the queries found, likewise."""


@dataclass(frozen=True)
class Transformer:
    """A decoder with layer norm before its parts (Vaswani et al. 2017; Xiong et al. 2020).

    x_0 = W [input, 1], and for every layer

        x ← x + W_o Attention(LN x),    x ← x + W_2 relu(W_1 LN x),    h = LN x at the end.

    A step attends to itself and the ``context`` − 1 steps before. Positions are relative: queries
    and keys are turned by angles that grow with their step, so that their product knows only how
    far apart they are (rotary embedding, Su et al. 2021). So a window may slide for as long as it
    likes. With several layers something of what left it comes through, a window further back each.

    The memory is (cache ``[N, layers, 2, C, heads, d]``, position ``[N]``): of every lane the keys,
    turned, and the values of its last steps, and how many steps it has seen. Step s stands in slot
    s mod C. C grows with the trial up to ``context``, where the newest step takes the oldest one's
    slot: in float32 8 · layers · H · C bytes a lane.

    Attributes:
        input_size: Width of what it is fed.
        width: H, a multiple of 2 · heads.
        prefix: Of the parameters' names.
        layers: Of attention and perceptron.
        heads: Of every attention, each H / heads wide.
        context: Steps that a step sees, with itself; None: all of the trial.
    """

    input_size: int
    width: int
    prefix: str = "core"
    layers: int = 2
    heads: int = 2
    context: int | None = None

    @property
    def widest(self) -> int:
        """The numbers of a step's perceptron."""
        return 4 * self.width

    def init(self, rng: np.random.Generator) -> Params:
        """Orthogonal weights, zero biases; what a layer adds is small at first.

        The last weights of its parts are scaled by 1/√(2 · layers) (Radford et al. 2019), so that
        the sum of all parts has the scale of the input whatever their number. The bias of the
        input's embedding is drawn like the weights: layer norm takes away what all numbers of a
        vector have in common, and beside a constant the inputs keep their scale.
        """
        width, params = self.width, {}
        first = orthogonal(rng, self.input_size + 1, width, 1.0)
        params["embed.weight"], params["embed.bias"] = first[:-1].clone(), first[-1].clone()
        small = 1.0 / math.sqrt(2.0 * self.layers)
        for layer in range(self.layers):
            blocks = [orthogonal(rng, width, width, 1.0) for _ in range(3)]  # of q, k, v
            weights = {
                "attention": torch.cat(blocks, dim=1),
                "attention_out": orthogonal(rng, width, width, small),
                "mlp": orthogonal(rng, width, 4 * width, math.sqrt(2.0)),
                "mlp_out": orthogonal(rng, 4 * width, width, small),
            }
            for name, weight in weights.items():
                params[f"layer{layer}.{name}.weight"] = weight  # [in, out]
                params[f"layer{layer}.{name}.bias"] = torch.zeros(weight.shape[1])
            for norm in ("attention_norm", "mlp_norm"):
                params |= _unit_norm(f"layer{layer}.{norm}", width)
        params |= _unit_norm("norm", width)
        return {f"{self.prefix}.{name}": p for name, p in params.items()}

    def initial(self, lanes: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing was seen, and there is no slot yet."""
        shape = (lanes, self.layers, 2, 0, self.heads, self.width // self.heads)
        return like.new_zeros(shape), torch.zeros(lanes, dtype=torch.long, device=like.device)

    def sequence(
        self, params: Mapping[str, Tensor], x: Tensor, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Inputs ``[S, N, in]`` → hidden states ``[S, N, H]`` and the memory after them.

        All steps at once: what was remembered stands before them, under a band for a mask.
        """
        cache, position = memory
        steps, lanes = x.shape[:2]
        time = position.unsqueeze(1) + torch.arange(steps, device=x.device)  # [N, S]
        mask = self._visible(cache.shape[3], position, time)
        seen = []

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            seen.append(torch.stack([k, v], dim=1))  # [N, 2, S, heads, d]
            remembered = cache[:, layer].unbind(1) if cache.shape[3] else None
            if remembered is not None:
                k, v = (torch.cat(pair, dim=1) for pair in zip(remembered, (k, v), strict=True))
            return _attention(q, k, v, mask)

        hidden = self._forward(params, x.transpose(0, 1), time, attend)
        cache = self._with_room(cache, int(position.max()) + steps)
        kept = slice(max(0, steps - cache.shape[3]), None)  # earlier ones are overwritten by later
        news = torch.stack(seen, dim=1)[:, :, :, kept].movedim(3, 1)  # [N, S', layers, 2, heads, d]
        index = (torch.arange(lanes, device=x.device).unsqueeze(1), time[:, kept] % cache.shape[3])
        cache = cache.movedim(3, 1).index_put(index, news).movedim(1, 3)
        return hidden.transpose(0, 1), (cache, position + steps)

    def prepare(self, params: Mapping[str, Tensor]) -> Params:
        """Copies of its own parameters; there is nothing to join."""
        return {n: p.detach().clone() for n, p in params.items() if n.startswith(f"{self.prefix}.")}

    @torch.no_grad()
    def step(
        self, prepared: Params, x: Tensor, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Inputs ``[N, in]`` → hidden states ``[N, H]`` and the next memory.

        It writes into the cache: of a lane that :meth:`held` keeps, only a slot that its next step
        overwrites, and does not see.
        """
        cache, position = memory
        used = int(position.max()) + 1
        if used > cache.shape[3]:
            cache = self._with_room(cache, max(used, 2 * cache.shape[3], _LEAST_CAPACITY))
        capacity = cache.shape[3]
        used = min(used, capacity)
        lanes, slot = torch.arange(len(x), device=x.device), position % capacity
        filled = None  # as long as all lanes are at the same step
        if int(position.min()) + 1 < used:
            filled = (torch.arange(used, device=x.device) <= position.unsqueeze(1)).view(
                len(x), 1, 1, used
            )

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = cache[:, layer].unbind(1)  # [N, C, heads, d]
            keys[lanes, slot], values[lanes, slot] = k.squeeze(1), v.squeeze(1)
            return _attention(q, keys[:, :used], values[:, :used], filled)

        hidden = self._forward(prepared, x.unsqueeze(1), position.unsqueeze(1), attend)
        return hidden.squeeze(1), (cache, position + 1)

    def held(
        self, active: Tensor, after: tuple[Tensor, ...], before: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """The cache serves both: a lane that was not active has not moved on in it."""
        return after[0], torch.where(active, after[1], before[1])

    def _forward(
        self, params: Mapping[str, Tensor], x: Tensor, time: Tensor, attend: Attention
    ) -> Tensor:
        """Inputs ``[N, S, in]`` of steps with these numbers ``[N, S]`` → hidden ``[N, S, H]``."""
        turn = self._rotation(time, x.dtype)
        x = linear(params, f"{self.prefix}.embed", x)
        for layer in range(self.layers):
            name = f"{self.prefix}.layer{layer}"
            qkv = linear(params, f"{name}.attention", _norm(params, f"{name}.attention_norm", x))
            q, k, v = qkv.view(*x.shape[:2], 3, self.heads, -1).unbind(2)
            found = attend(layer, _turned(q, turn), _turned(k, turn), v).flatten(2)
            x = x + linear(params, f"{name}.attention_out", found)
            inner = linear(params, f"{name}.mlp", _norm(params, f"{name}.mlp_norm", x))
            x = x + linear(params, f"{name}.mlp_out", torch.relu(inner))
        return _norm(params, f"{self.prefix}.norm", x)

    def _visible(self, capacity: int, position: Tensor, time: Tensor) -> Tensor | None:
        """Which of the C slots and S new steps each new step sees, bool ``[N or 1, 1, S, C + S]``.

        None: every new step all before it, and nothing is remembered.
        """
        steps = time.shape[1]
        if not capacity and (self.context or steps) >= steps:
            return None
        if capacity:
            slots = torch.arange(capacity, device=time.device)
            last = position.unsqueeze(1) - 1  # the step in a slot is the last one that it is due to
            written = last - (last - slots) % capacity  # [N, C], negative: none yet
            keys = torch.cat([written, time], dim=1)
        else:
            time = keys = time[:1]  # of lanes that have seen nothing all are alike
        age = time.unsqueeze(2) - keys.unsqueeze(1)  # [N, S, C + S]
        visible = (age >= 0) & (keys >= 0).unsqueeze(1)
        if self.context is not None:
            visible &= age < self.context
        return visible.unsqueeze(1)

    def _with_room(self, cache: Tensor, steps: int) -> Tensor:
        """The cache with slots for so many steps, or for the context: a new one if it grew."""
        capacity = steps if self.context is None else min(steps, self.context)
        missing = capacity - cache.shape[3]
        return F.pad(cache, (0, 0, 0, 0, 0, missing)) if missing > 0 else cache

    def _rotation(self, time: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine ``[N, S, 1, d/2]``; angles are float64, exact for long trials."""
        half = self.width // self.heads // 2
        exponents = torch.arange(half, device=time.device, dtype=torch.float64) / half
        angles = time[..., None, None] * _ROTARY_BASE**-exponents
        return angles.cos().to(dtype), angles.sin().to(dtype)


def _turned(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Pairs of numbers, one of each half of ``[N, S, heads, d]``, turned by their angles."""
    cos, sin = rotation
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ/√d) v over the keys visible, of all ``[N, ·, heads, d]``.

    Without a mask a query sees the keys up to its own: where there is one query, all of them.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    causal = mask is None and q.shape[2] > 1
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    return found.transpose(1, 2)


def _norm(params: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    return F.layer_norm(x, weight.shape, weight, bias)


def _unit_norm(name: str, width: int) -> Params:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
