"""The recurrent policy: a sequence at once is its steps one by one, and gradients cross time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from metarl.experience.inputs import shown_in
from metarl.experience.rollout import RolloutWorker
from metarl.maths.params import Params, flatten, unflatten
from metarl.maths.running_moments import RunningMoments
from metarl.networks import recurrent
from metarl.networks.memory_cores import LSTM, core_maker
from metarl.networks.recurrent import RecurrentActor, RecurrentPolicy, normalized
from metarl.networks.spaces import space_sizes
from metarl.random import Key
from metarl.types import Inputs
from tests.experience.test_rollout import Stairs
from tests.toy_envs import Arms

STEPS, LANES = 7, 6
KINDS = list(itertools.product(("lstm", "gru"), ((0, 0, 0), (5, 4, 3)), ((), (6,))))


def policy(core: Any = "lstm", **changes: Any) -> RecurrentPolicy:
    sizes: dict[str, Any] = {"observation_dim": 3, "action_dim": 2, "width": 8}
    return RecurrentPolicy(**sizes | {"make_core": core_maker(core)} | changes)


def doubles(params: Params) -> Params:
    """In float64, and away from the zeros of the initial biases."""
    rng = np.random.default_rng(0)
    return {
        n: p.double() + 0.1 * torch.from_numpy(rng.normal(size=p.shape)) for n, p in params.items()
    }


def initial(of: RecurrentPolicy, seed: int = 1) -> Params:
    return of.init(Key(seed).generator("init"))


def random_inputs(of: RecurrentPolicy) -> Inputs:
    g = torch.Generator().manual_seed(0)
    shape = (STEPS, LANES)
    actions = torch.randn(*shape, of.action_dim, generator=g, dtype=torch.float64)
    return Inputs(
        torch.randn(*shape, of.observation_dim, generator=g, dtype=torch.float64),
        torch.randint(-1, of.action_dim, shape, generator=g) if of.discrete else actions,
        torch.randn(*shape, generator=g, dtype=torch.float64),
        torch.rand(*shape, generator=g) < 0.3,
    )


def slow_forward(
    of: RecurrentPolicy, p: Params, inputs: Inputs
) -> tuple[torch.Tensor, torch.Tensor]:
    """The equations written out, one lane and one step at a time: heads ``[S, N, a]``, values."""
    all_heads, all_values = [], []
    for n in range(LANES):
        h = c = torch.zeros(of.width, dtype=torch.float64)
        heads, values = [], []
        for s in range(STEPS):
            previous = inputs.previous_actions[s, n]
            if of.discrete:
                previous = torch.tensor([float(previous == i) for i in range(of.action_dim)])
            parts = []
            plain = (
                inputs.observations[s, n],
                previous.double(),
                inputs.previous_rewards[s, n].view(1),
            )
            for name, x in zip(("observation", "action", "reward"), plain, strict=True):
                if f"embed_{name}.weight" in p:
                    x = torch.relu(x @ p[f"embed_{name}.weight"] + p[f"embed_{name}.bias"])
                parts.append(x)
            x = torch.cat([*parts, inputs.episode_start[s, n].double().view(1)])
            gates = len(p["core.bias_ih"]) // of.width
            from_x = (p["core.weight_ih"] @ x + p["core.bias_ih"]).chunk(gates)
            from_h = (p["core.weight_hh"] @ h + p["core.bias_hh"]).chunk(gates)
            if isinstance(of.core, LSTM):
                i, f, g, o = (a + b for a, b in zip(from_x, from_h, strict=True))
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                r, z = (torch.sigmoid(a + b) for a, b in zip(from_x[:2], from_h[:2], strict=True))
                h = (1 - z) * torch.tanh(from_x[2] + r * from_h[2]) + z * h
            outs = []
            for head in ("actor", "critic"):
                y = h
                for i in range(len(of.head_sizes)):
                    y = torch.tanh(y @ p[f"{head}{i}.weight"] + p[f"{head}{i}.bias"])
                last = f"{head}{len(of.head_sizes)}"
                outs.append(y @ p[f"{last}.weight"] + p[f"{last}.bias"])
            heads.append(outs[0])
            values.append(outs[1][0])
        all_heads.append(torch.stack(heads))
        all_values.append(torch.stack(values))
    return torch.stack(all_heads, 1), torch.stack(all_values, 1)


def losses(head: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """A loss that looks at the last steps only, so that all else must come through time."""
    return head[-2:].square().sum() + (values[-2:] * torch.arange(1.0, LANES + 1)).sum()


@pytest.mark.parametrize(("core", "embeddings", "head_sizes"), KINDS)
@pytest.mark.parametrize("discrete", [False, True])
def test_values_and_gradients_are_those_of_the_equations(
    core: str, embeddings: Any, head_sizes: Any, discrete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also across the blocks into which time is cut: a memory detached there fails here."""
    of = policy(core, embeddings=embeddings, head_sizes=head_sizes, discrete=discrete)
    monkeypatch.setattr(recurrent, "_BLOCK_BYTES", 3 * LANES * 4 * of.width * 8)  # some 3 steps
    params, inputs = doubles(initial(of)), random_inputs(of)
    leaf = flatten(params).requires_grad_()
    outputs = of.sequence(unflatten(leaf, params), inputs)
    head = outputs.distribution[0]
    slow_head, slow_values = slow_forward(of, unflatten(leaf, params), inputs)
    torch.testing.assert_close(head, slow_head, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(outputs.values, slow_values, rtol=1e-10, atol=1e-12)
    gradient = torch.autograd.grad(losses(head, outputs.values), leaf)[0]
    slow = torch.autograd.grad(losses(slow_head, slow_values), leaf)[0]
    assert slow.norm() > 0.1
    torch.testing.assert_close(gradient, slow, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("core", ["lstm", "gru", "transformer"])
def test_gradients_reach_the_first_step_and_a_truncation_ends_them(core: str) -> None:
    of = policy(core)
    params, inputs = doubles(initial(of)), random_inputs(of)
    seen = inputs.observations.clone().requires_grad_()

    def reached(truncate_every: int | None) -> tuple[torch.Tensor, list[bool]]:
        outputs = of.sequence(params, inputs._replace(observations=seen), None, truncate_every)
        (gradient,) = torch.autograd.grad(outputs.values[-1].sum(), seen)
        return outputs.values.detach(), (gradient.abs().amax((1, 2)) > 1e-9).tolist()

    values, whole = reached(None)
    same, cut = reached(3)
    assert whole == [True] * 7
    assert cut == [False] * 6 + [True]  # cut before steps 0, 3 and 6
    torch.testing.assert_close(values, same, rtol=1e-12, atol=0)  # the memory itself goes on
    assert reached(4)[1] == [False] * 4 + [True] * 3


@pytest.mark.parametrize(("core", "embeddings", "head_sizes"), KINDS)
def test_the_rollouts_steps_are_the_updates_sequence(
    core: str, embeddings: Any, head_sizes: Any
) -> None:
    """On trials with episodes of uneven lengths, inputs normalised; and padding changes nothing."""
    of = policy(core, observation_dim=2, embeddings=embeddings, head_sizes=head_sizes)
    params = initial(of)
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(3)) * 2.0 + 1.0
    moments = RunningMoments.empty(3).merge(rows)
    actor = RecurrentActor(of, params, moments)
    tasks = np.array([[2.0], [4.0], [9.0]])
    trial = RolloutWorker(Stairs).collect(actor, tasks, 4, Key(1), episodes=3)
    assert len(trial.valid.sum(-1).unique()) > 3
    inputs = Inputs(*(x.flatten(0, 1).transpose(0, 1) for x in shown_in(trial)))
    outputs = of.sequence(params, normalized(inputs, moments.columns(slice(-1, None))))
    actions = trial.actions.flatten(0, 1).transpose(0, 1)
    valid = trial.valid.flatten(0, 1).T
    log_probs = outputs.distribution.log_prob(actions)
    assert trial.values is not None
    for fast, slow in ((log_probs, trial.log_probs), (outputs.values, trial.values)):
        torch.testing.assert_close(fast[valid], slow.flatten(0, 1).T[valid], rtol=1e-4, atol=2e-5)


def test_the_same_with_discrete_actions() -> None:
    of = policy(observation_dim=1, action_dim=5, discrete=True)
    params = initial(of)
    tasks = np.array([[0.0], [3.0]])
    worker = RolloutWorker(lambda n: Arms(n, horizon=2))
    trial = worker.collect(RecurrentActor(of, params), tasks, 4, Key(1), episodes=3)
    inputs = Inputs(*(x.flatten(0, 1).transpose(0, 1) for x in shown_in(trial)))
    log_probs = of.sequence(params, inputs).distribution.log_prob(trial.actions.flatten(0, 1).T)
    torch.testing.assert_close(log_probs, trial.log_probs.flatten(0, 1).T, rtol=1e-4, atol=2e-5)


def test_a_sequence_goes_on_where_another_ended() -> None:
    of = policy("gru")
    params, inputs = doubles(initial(of)), random_inputs(of)
    whole = of.sequence(params, inputs)
    first = of.sequence(params, Inputs(*(x[:4] for x in inputs)))
    second = of.sequence(params, Inputs(*(x[4:] for x in inputs)), first.memory)
    joined = torch.cat([first.values, second.values])
    torch.testing.assert_close(joined, whole.values, rtol=1e-12, atol=0)
    torch.testing.assert_close(second.memory[0], whole.memory[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", Inputs._fields)
def test_every_input_is_looked_at(name: str) -> None:
    of = policy(embeddings=(5, 4, 3))
    params, inputs = doubles(initial(of)), random_inputs(of)
    x = getattr(inputs, name)
    other = inputs._replace(**{name: ~x if x.dtype == torch.bool else x + 1.0})
    a, b = of.sequence(params, inputs).values, of.sequence(params, other).values
    assert not torch.allclose(a, b, atol=1e-3)


def test_initial_parameters() -> None:
    of = policy("lstm", embeddings=(5, 4, 3), head_sizes=(16,))
    params = initial(of)
    assert all(
        torch.equal(p, q) for p, q in zip(params.values(), initial(of).values(), strict=True)
    )
    assert not torch.equal(params["core.weight_hh"], initial(of, 2)["core.weight_hh"])
    for gate in params["core.weight_hh"].chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), rtol=0, atol=1e-5)
    for gate in params["core.weight_ih"].chunk(4):  # [8, 13]
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), rtol=0, atol=1e-5)
    assert params["core.bias_ih"].view(4, 8).mean(1).tolist() == [0.0, 1.0, 0.0, 0.0]
    last = params["actor1.weight"]  # [16, 2]
    torch.testing.assert_close(last.T @ last, 1e-4 * torch.eye(2), rtol=0, atol=1e-9)


def test_spaces_that_it_cannot_serve() -> None:
    from gymnasium import spaces

    box = spaces.Box(-1.0, 1.0, (2,))
    with pytest.raises(ValueError, match="observations must be a flat Box or images"):
        space_sizes(spaces.Discrete(3), box)
    with pytest.raises(ValueError, match="actions must be a flat Box, Discrete, or flat"):
        space_sizes(box, spaces.MultiBinary((2, 2)))
