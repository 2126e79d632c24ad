"""A recurrent policy one step at a time, as rollouts and evaluations want it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.maths.params import Params
from metarl.maths.running_moments import RunningMoments
from metarl.networks.recurrent import Memory, Outputs, RecurrentPolicy, normalized
from metarl.types import Decision, Inputs


class RecurrentActor:
    """A recurrent policy, as the rollout wants it: single steps, no gradients, on the CPU.

    The memory's two products with its input and with itself become one, with the weights transposed
    and joined once.

    Args:
        policy: The function.
        params: On the CPU; later changes of them are not seen.
        moments: By which inputs are normalised, see :func:`normalized`.
    """

    def __init__(
        self, policy: RecurrentPolicy, params: Params, moments: RunningMoments | None = None
    ) -> None:
        self.policy = policy
        self.params = {name: p.detach().clone() for name, p in params.items()}
        self._normalize = None if moments is None else moments.normalizer(params["core.bias_ih"])
        self._weight, self._bias = _joined(policy, self.params)

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Noise for actions of the given leading shape: float32 ``[*shape, a]``."""
        return self.policy.family.noise(rng, (*shape, self.policy.action_dim))

    def act(self, inputs: Inputs, noise: Tensor, carry: Memory | None) -> Decision:
        """Actions and values ``[M, B]`` for inputs ``[M, B, ...]``; the carry is the memory."""
        distribution, value, memory = self.step(inputs, carry)
        action = distribution.sample(noise)
        return Decision(action, distribution.log_prob(action), value, memory)

    @torch.no_grad()
    def step(self, inputs: Inputs, memory: Memory | None) -> Outputs:
        """One step of all lanes: π over ``[M, B]``, V ``[M, B]``, the next memory."""
        shape = inputs.observations.shape[:2]
        rows = Inputs(*(x.flatten(0, 1) for x in inputs))
        if self._normalize is not None:
            rows = normalized(rows, self._normalize)
        memory = memory or self.policy.initial_memory(len(rows.observations), rows.observations)
        x = torch.cat([self.policy.features(self.params, rows), memory[0]], dim=-1)
        gates = torch.addmm(self._bias, x, self._weight)
        memory = (_lstm if self.policy.core == "lstm" else _gru)(gates, memory)
        head = self.policy.head(self.params, "actor", memory[0]).view(*shape, -1)
        value = self.policy.head(self.params, "critic", memory[0]).view(shape)
        return Outputs(self.policy.distribution(self.params, head), value, memory)


def _joined(policy: RecurrentPolicy, params: Params) -> tuple[Tensor, Tensor]:
    """Weight ``[in + H, 4H]`` and bias ``[4H]`` of a step's gates, from [input, hidden] at once.

    LSTM: input, forget and output gate, then the candidate. GRU: reset and update gate, then the
    candidate's share of the input and that of the memory, which the reset gate must tell apart.
    """
    w_x, w_h = params["core.weight_ih"].T, params["core.weight_hh"].T  # [in, G·H], [H, G·H]
    b_x, b_h = params["core.bias_ih"], params["core.bias_hh"]
    width = policy.width
    if policy.core == "lstm":
        order = torch.arange(4 * width).view(4, width)[[0, 1, 3, 2]].flatten()  # i, f, o, g
        return torch.cat([w_x, w_h])[:, order].contiguous(), (b_x + b_h)[order]
    both, zero_x, zero_h = 2 * width, w_x.new_zeros(len(w_x), width), w_h.new_zeros(width, width)
    from_x = torch.cat([w_x[:, :both], w_x[:, both:], zero_x], dim=1)
    from_h = torch.cat([w_h[:, :both], zero_h, w_h[:, both:]], dim=1)
    bias = torch.cat([b_x[:both] + b_h[:both], b_x[both:], b_h[both:]])
    return torch.cat([from_x, from_h]).contiguous(), bias


def _lstm(gates: Tensor, memory: Memory) -> Memory:
    """c' = f ⊙ c + i ⊙ g, h' = o ⊙ tanh c'."""
    width = gates.shape[-1] // 4
    i, f, o = torch.sigmoid(gates[:, : 3 * width]).chunk(3, dim=-1)
    c = torch.addcmul(f * memory[1], i, torch.tanh(gates[:, 3 * width :]))
    return o * torch.tanh(c), c


def _gru(gates: Tensor, memory: Memory) -> Memory:
    """n = tanh(n_x + r ⊙ n_h), h' = n + z ⊙ (h − n)."""
    width = gates.shape[-1] // 4
    r, z = torch.sigmoid(gates[:, : 2 * width]).chunk(2, dim=-1)
    n_x, n_h = gates[:, 2 * width :].chunk(2, dim=-1)
    return (torch.lerp(torch.tanh(torch.addcmul(n_x, r, n_h)), memory[0], z),)
