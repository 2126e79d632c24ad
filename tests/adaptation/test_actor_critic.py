"""Policies whose objective is somebody else's: each alone, targets, and what they are told."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.adaptation.actor_critic import ActorCritics, Recipe, learn
from metarl.experience.chunks import chunk_rows
from metarl.experience.replay import Rows
from metarl.networks.objective import reinforce

RECIPE = Recipe(
    hidden_sizes=(8,),
    actor_lr=1e-2,
    critic_lr=1e-2,
    discount=0.9,
    target_rate=0.1,
    target_noise=0.2,
    target_noise_clip=0.5,
    policy_delay=2,
    sequence=3,
    batch=4,
    capacity=50,
    saturation_weight=0.0,
    max_gradient_norm=1.0,
    exploration_noise=0.1,
    random_steps=0,
    updates_per_step=1.0,
)


def group(*seeds: int, **changes: float) -> ActorCritics:
    rngs = list(map(np.random.default_rng, seeds))
    recipe = RECIPE._replace(**changes)
    return ActorCritics(recipe, (2, 1), rngs, torch.device("cpu"))


def episodes(seed: int = 0, lengths: tuple[int, ...] = (5, 3), terminated: bool = True) -> Rows:
    """One on each lane; the second ends by the task's rule, the first by a time limit."""
    rng = np.random.default_rng(seed)
    lanes, longest = len(lengths), max(lengths)
    rows: Rows = {
        name: torch.from_numpy(rng.uniform(-1, 1, (lanes, longest, *shape)).astype(np.float32))
        for name, shape in (
            ("observations", (2,)),
            ("actions", (1,)),
            ("rewards", ()),
            ("next_observations", (2,)),
        )
    }
    rows["terminated"] = torch.zeros(lanes, longest, dtype=torch.bool)
    rows["terminated"][1, lengths[1] - 1 :] = terminated
    rows["valid"] = torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)
    return rows


def test_chunks_hold_every_step_once_and_none_that_is_empty() -> None:
    whole = episodes(lengths=(7, 3))
    cut = chunk_rows(whole, 3)
    assert cut["valid"].tolist() == [[True] * 3, [True] * 3, [True, False, False], [True] * 3]
    for name in whole:
        torch.testing.assert_close(cut[name][cut["valid"]], whole[name][whole["valid"]])


def test_an_end_is_worth_nothing_more_and_a_time_limit_is_no_end() -> None:
    one = group(1)
    one.keep([episodes()])
    chunks = one.sample(np.random.default_rng(3))
    y = one.targets(chunks, np.random.default_rng(0))
    ended, goes_on = chunks.terminated & chunks.valid, ~chunks.terminated & chunks.valid
    assert ended.any()
    torch.testing.assert_close(y[ended], chunks.rewards[ended])  # and no reward for the end
    assert (y != chunks.rewards)[goes_on].all()  # the time limit's last step among them
    told = one.steps(chunks, one.phi)
    assert not told.next_values[ended].any()
    assert (told.next_values != 0)[goes_on].all()


def test_targets_are_those_of_a_slow_loop() -> None:
    two = group(1, 2)
    two.keep([episodes(1), episodes(2)])
    chunks = two.sample(np.random.default_rng(3))
    y = two.targets(chunks, np.random.default_rng(5))
    drawn = np.random.default_rng(5).standard_normal(chunks.actions.shape, dtype=np.float32)
    noise = torch.from_numpy(drawn).mul(0.2).clamp(-0.5, 0.5)

    def net(name: str, which: int, x: Tensor) -> Tensor:
        part = {n: p[which] for n, p in two.target.items() if n.startswith(name)}
        hidden = torch.relu(x @ part[f"{name}0.weight"] + part[f"{name}0.bias"])
        return (hidden @ part[f"{name}1.weight"] + part[f"{name}1.bias"]).squeeze(0)

    m, t, n = 1, 2, 0
    following = chunks.next_observations[m, t, n]
    action = (net("actor", m, following).tanh() + noise[m, t, n]).clamp(-1, 1)
    q = [net("critic", 2 * m + i, torch.cat([following, action])) for i in range(2)]
    more = 0.0 if chunks.terminated[m, t, n] else 0.9 * min(map(float, q))
    torch.testing.assert_close(float(y[m, t, n]), float(chunks.rewards[m, t, n]) + more)


def test_policies_learn_together_as_each_alone() -> None:
    both, alone = group(1, 2, saturation_weight=0.3), group(2, saturation_weight=0.3)
    same = [episodes(1), episodes(2)]
    both.keep(same)
    alone.keep(same[1:])
    chunks = both.sample(np.random.default_rng(3))
    own = type(chunks)(*(part[1:] for part in chunks))

    class Fixed:
        """Draws the noise of the second policy alone from the noise of both."""

        def standard_normal(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            whole = np.random.default_rng(7).standard_normal((2, *shape[1:]), dtype=np.float32)
            return whole[2 - shape[0] :]

    noise = Fixed()
    for one, batch in ((both, chunks), (alone, own)):
        one.learn_critics(batch, noise)  # type: ignore[arg-type]
        phi = one.phi.requires_grad_()
        told = one.steps(batch, phi)
        loss = 50 * told.mean(reinforce([told])[0]).sum()  # so that it is shortened
        one.improve(torch.autograd.grad(loss, phi)[0], batch)
    for name, p in alone.learned["actor"].params.items():
        torch.testing.assert_close(both.learned["actor"].params[name][1:], p)
    for name, p in alone.target.items():
        torch.testing.assert_close(both.target[name][-len(p) :], p)


def test_a_saturated_policy_is_brought_back_where_no_objective_reaches_it() -> None:
    """By the gradient of the mean square of what its tanh is given, over what is valid."""
    one = group(1, saturation_weight=0.01, max_gradient_norm=1e9)
    one.keep([episodes()])
    actor = one.learned["actor"]
    actor.params = actor.params | {"actor1.bias": torch.full((1, 1, 1), 30.0)}
    chunks = one.sample(np.random.default_rng(3))
    policy = {name: p[0] for name, p in actor.params.items()}
    hidden = torch.relu(chunks.observations[0] @ policy["actor0.weight"] + policy["actor0.bias"])
    valid = chunks.valid[0]
    given = (hidden @ policy["actor1.weight"]).squeeze(-1)[valid] + 30.0
    gradient = one._policies(one._saturation(chunks))["actor1.bias"]
    torch.testing.assert_close(gradient.flatten()[0], 2.0 * given.mean())
    learn(one, np.random.default_rng(1), lambda batch: [s.policy_actions.sum(-1) for s in batch])
    assert actor.params["actor1.bias"] < 30.0


def test_cosines_are_each_policys_own() -> None:
    both = group(1, 2)
    one, other = torch.randn(2, len(both.phi), generator=torch.Generator().manual_seed(0))
    for m, found in enumerate(both.cosines(one, other)):
        parts = [
            torch.cat([p[m].flatten() for p in both._policies(x).values()]) for x in (one, other)
        ]
        torch.testing.assert_close(found, torch.cosine_similarity(*parts, dim=0))


def test_an_objective_of_nothing_moves_no_policy() -> None:
    one = group(1)
    one.keep([episodes()])
    before, critic = one.phi, one.learned["critic"].params["critic0.weight"]
    learn(
        one, np.random.default_rng(1), lambda batch: [0.0 * s.policy_actions.sum(-1) for s in batch]
    )
    assert torch.equal(one.phi, before)
    assert not torch.equal(one.learned["critic"].params["critic0.weight"], critic)
