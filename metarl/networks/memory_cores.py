"""Memory cores: what turns a sequence of inputs into hidden states, by what it remembers.

A core is a pair of numbers and a function; its parameters stand in the dict of whoever uses it,
under the core's prefix, and its memory is a value. It goes through time in two ways that give the
same: :meth:`MemoryCore.sequence`, fused and differentiable, for the update, and
:meth:`MemoryCore.step`, for the rollout.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from metarl.maths.params import Params
from metarl.networks.layers import orthogonal
from metarl.networks.transformer import Transformer
from metarl.types import CoreName

Memory = tuple[Tensor, ...]
"""What a core remembers of N lanes: tensors ``[N, ...]``, which are the core's own business."""


class MemoryCore(Protocol):
    """A memory of N independent lanes, without parameters of its own."""

    @property
    def input_size(self) -> int:
        """Width of what it is fed."""

    @property
    def width(self) -> int:
        """H, width of the hidden states."""

    @property
    def widest(self) -> int:
        """The numbers of the largest activation of one lane and step."""

    def init(self, rng: np.random.Generator) -> Params:
        """Fresh parameters, drawn with numpy, every name with the prefix."""

    def initial(self, lanes: int, like: Tensor) -> Memory:
        """That of lanes that have seen nothing, on the device and in the dtype of ``like``."""

    def sequence(
        self, params: Mapping[str, Tensor], x: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Inputs ``[S, N, in]`` → hidden states ``[S, N, H]`` and the memory after them.

        Differentiable in all three arguments, and none is written to.
        """

    def prepare(self, params: Mapping[str, Tensor]) -> Any:
        """The parameters as :meth:`step` wants them; later changes of them are not seen."""

    def step(self, prepared: Any, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Inputs ``[N, in]`` → hidden states ``[N, H]`` and the next memory, without gradients.

        It may write into the memory that it is given, which only :meth:`held` may see after that:
        :func:`copied` keeps one.
        """

    def held(self, active: Tensor, after: Memory, before: Memory) -> Memory:
        """The memory after a step where lanes are active, bool ``[N]``, and before it elsewhere."""


class CoreMaker(Protocol):
    """A kind of core, with all its settings but the sizes."""

    def __call__(self, input_size: int, width: int, prefix: str = "core") -> MemoryCore:
        """The core of these sizes, whose parameters are called ``<prefix>.<name>``."""


def core_maker(name: CoreName, **settings: Any) -> CoreMaker:
    """That kind of core with the settings that it has."""
    return functools.partial(_KINDS[name], **settings)


def copied(memory: Memory) -> Memory:
    """The same in tensors of its own, which no step writes to."""
    return tuple(m.clone() for m in memory)


@dataclass(frozen=True)
class _Gated:
    """What LSTM and GRU share: parameters named and ordered as ``torch.nn`` has them.

    Attributes:
        input_size: Width of what it is fed.
        width: H.
        prefix: Of the parameters' names.
    """

    input_size: int
    width: int
    prefix: str = "core"
    gates: ClassVar[int]

    @property
    def widest(self) -> int:
        """The numbers of one step's gates."""
        return self.gates * self.width

    def init(self, rng: np.random.Generator) -> Params:
        """Each gate's block orthogonal by itself (Saxe et al. 2014), zero biases."""
        params = {}
        for name, n_in in (("weight_ih", self.input_size), ("weight_hh", self.width)):
            gates = [orthogonal(rng, n_in, self.width, 1.0).T for _ in range(self.gates)]
            params[f"{self.prefix}.{name}"] = torch.cat(gates).contiguous()  # [G·H, in]
        for name in ("bias_ih", "bias_hh"):
            params[f"{self.prefix}.{name}"] = torch.zeros(self.widest)
        return params

    def held(self, active: Tensor, after: Memory, before: Memory) -> Memory:
        """See :class:`MemoryCore`."""
        lanes = active.view(-1, 1)
        return tuple(torch.where(lanes, a, b) for a, b in zip(after, before, strict=True))

    def _weights(self, params: Mapping[str, Tensor]) -> list[Tensor]:
        """W_x ``[G·H, in]``, W_h ``[G·H, H]``, b_x, b_h ``[G·H]``."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [params[f"{self.prefix}.{name}"] for name in names]

    def _zeros(self, lanes: int, like: Tensor) -> Tensor:
        return torch.zeros(lanes, self.width, device=like.device, dtype=like.dtype)


class LSTM(_Gated):
    """Long short-term memory: c' = f ⊙ c + i ⊙ g, h' = o ⊙ tanh c'.

    That of Hochreiter and Schmidhuber (1997) with forget gates (Gers et al. 2000), the equations
    those of ``torch.nn.LSTM``. Its memory is (h, c), both ``[N, H]``.
    """

    gates = 4

    def init(self, rng: np.random.Generator) -> Params:
        """The forget gates start open, with a bias of 1 (Jozefowicz et al. 2015)."""
        params = super().init(rng)
        params[f"{self.prefix}.bias_ih"][self.width : 2 * self.width] = 1.0
        return params

    def initial(self, lanes: int, like: Tensor) -> Memory:
        """Zeros."""
        zeros = self._zeros(lanes, like)
        return zeros, zeros

    def sequence(
        self, params: Mapping[str, Tensor], x: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`MemoryCore`."""
        state = [m.unsqueeze(0) for m in memory]  # one layer
        hidden, h, c = torch.lstm(x, state, self._weights(params), *_options())
        return hidden, (h.squeeze(0), c.squeeze(0))

    def prepare(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weight ``[in + H, 4H]`` and bias ``[4H]`` of input, forget, output gate and candidate.

        A step's two products, with the input and with h, so become one.
        """
        w_x, w_h, b_x, b_h = self._weights(params)
        order = torch.arange(4 * self.width).view(4, -1)[[0, 1, 3, 2]].flatten()  # i, f, o, g
        return torch.cat([w_x.T, w_h.T])[:, order].contiguous(), (b_x + b_h)[order]

    def step(
        self, prepared: tuple[Tensor, Tensor], x: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`MemoryCore`."""
        weight, bias = prepared
        gates = torch.addmm(bias, torch.cat([x, memory[0]], dim=-1), weight)
        i, f, o = torch.sigmoid(gates[:, : 3 * self.width]).chunk(3, dim=-1)
        c = torch.addcmul(f * memory[1], i, torch.tanh(gates[:, 3 * self.width :]))
        h = o * torch.tanh(c)
        return h, (h, c)


class GRU(_Gated):
    """Gated recurrent unit (Cho et al. 2014): n = tanh(n_x + r ⊙ n_h), h' = n + z ⊙ (h − n).

    The equations are those of ``torch.nn.GRU``; its memory is (h,), ``[N, H]``.
    """

    gates = 3

    def initial(self, lanes: int, like: Tensor) -> Memory:
        """Zeros."""
        return (self._zeros(lanes, like),)

    def sequence(
        self, params: Mapping[str, Tensor], x: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`MemoryCore`."""
        hidden, h = torch.gru(x, memory[0].unsqueeze(0), self._weights(params), *_options())
        return hidden, (h.squeeze(0),)

    def prepare(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weight ``[in + H, 4H]`` and bias ``[4H]``, from [input, h] at once.

        Reset and update gate, then the candidate's share of the input and that of h, which the
        reset gate must tell apart.
        """
        w_x, w_h, b_x, b_h = self._weights(params)
        w_x, w_h, both = w_x.T, w_h.T, 2 * self.width
        zero_x, zero_h = w_x.new_zeros(len(w_x), self.width), w_h.new_zeros(self.width, self.width)
        from_x = torch.cat([w_x[:, :both], w_x[:, both:], zero_x], dim=1)
        from_h = torch.cat([w_h[:, :both], zero_h, w_h[:, both:]], dim=1)
        bias = torch.cat([b_x[:both] + b_h[:both], b_x[both:], b_h[both:]])
        return torch.cat([from_x, from_h]).contiguous(), bias

    def step(
        self, prepared: tuple[Tensor, Tensor], x: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`MemoryCore`."""
        weight, bias = prepared
        gates = torch.addmm(bias, torch.cat([x, memory[0]], dim=-1), weight)
        r, z = torch.sigmoid(gates[:, : 2 * self.width]).chunk(2, dim=-1)
        n_x, n_h = gates[:, 2 * self.width :].chunk(2, dim=-1)
        h = torch.lerp(torch.tanh(torch.addcmul(n_x, r, n_h)), memory[0], z)
        return h, (h,)


def _options() -> tuple[Any, ...]:
    """Of torch's fused sequences: biases, one layer, no dropout, training, one way, time first."""
    return True, 1, 0.0, torch.is_grad_enabled(), False, False


_KINDS: dict[CoreName, Any] = {"lstm": LSTM, "gru": GRU, "transformer": Transformer}
