"""What an agent that trains fresh policies stands beside: trainings of other kinds on its tasks.

Each is trained by the protocol of the evaluation, on as many env steps, and measured without noise
after every round: REINFORCE is the very machinery of the learned objective with one written by
hand, TD3, DDPG and PPO are stable-baselines3's. Every evaluation seed is a training of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metarl.adaptation.actor_critic import Recipe
from metarl.agents.fresh_agent import FreshAgent
from metarl.algorithms.metagenrl import network_sizes, recipe_of, trained_by
from metarl.algorithms.settings.metagenrl import MetaGenRLSettings
from metarl.envs.vector import TaskVectorEnv
from metarl.evaluation.measurements import Evaluation
from metarl.evaluation.plan import EvaluationPlan
from metarl.evaluation.reference_kinds import ANEW, AnewKind
from metarl.evaluation.result import AdaptiveReference
from metarl.evaluation.summary import trained_beside
from metarl.networks.objective import reinforce
from metarl.process import command_line
from metarl.random import Key
from metarl.references.per_task_results import PerTaskReference
from metarl.references.storage import Definition, search_path
from metarl.types import ActionMode, Agent


@dataclass(frozen=True)
class TrainedAnew(PerTaskReference):
    """A training on each task of an evaluation with one evaluation seed.

    Attributes:
        recipe: How policies and critics learn, as far as it concerns the kind.
    """

    recipe: Recipe
    mode: ClassVar[ActionMode] = "deterministic"

    @classmethod
    def each(
        cls,
        kind: AnewKind,
        definition: Definition,
        plan: EvaluationPlan,
        tasks: np.ndarray,
        recipe: Recipe,
    ) -> Iterator[TrainedAnew]:
        """One for every evaluation seed of a plan."""
        for seed in plan.seeds:
            own = replace(plan, seed=seed, num_seeds=1)
            yield cls(kind, definition, own, "env_steps", tasks, None, recipe)

    @property
    def name(self) -> str:
        """What it is called in lines of progress."""
        return f"{self.kind}, seed {self.plan.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """How it learns."""
        return super().settings if self.kind == "ppo" else self.recipe._asdict()

    def agent(self, env: TaskVectorEnv) -> Agent:
        """Who learns.

        Raises:
            ValueError: actions are discrete, or images are observed.
        """
        key = Key(self.plan.seed, evaluation=True)
        sizes = network_sizes(env.single_observation_space, env.single_action_space)
        agent: Any
        if self.kind == "ppo":
            agent = super().agent(env)
            agent.mode = self.mode
        elif self.kind == "reinforce":
            agent = trained_by(reinforce, self.recipe, sizes, self.mode, key)
        else:
            from metarl.references.off_policy import OffPolicyPolicies  # needs stable-baselines3

            begin: Any = partial(OffPolicyPolicies, self.kind, self.recipe, sizes)  # type: ignore[arg-type]
            agent = FreshAgent(begin, OffPolicyPolicies.learn, self.mode, key)
        made: Agent = agent
        return made


def recipe_in(settings: Any) -> Recipe:
    """That of an algorithm's settings, or the default where they have none."""
    known = isinstance(settings, MetaGenRLSettings)
    return recipe_of(settings if known else MetaGenRLSettings.model_validate({}))


def read_trained_anew(
    headline: Evaluation,
    plan: EvaluationPlan,
    definition: Definition,
    recipe: Recipe,
    config: Sequence[str],
    folder: Path | None = None,
) -> tuple[dict[str, AdaptiveReference] | None, dict[str, str]]:
    """Those that were trained, and the commands that train the others, by their names.

    Args:
        headline: Of the agent beside.
        plan: The evaluation.
        definition: Of the environment.
        recipe: Of the agent beside.
        config: A config file of the run, and what else the commands need to read it.
        folder: Searched first, instead of ``references``.

    Raises:
        UserError: a file is damaged.
    """
    folders = search_path(folder)
    found: dict[str, AdaptiveReference] = {}
    missing: dict[str, str] = {}
    size = plan.arguments(without=("modes", "forget"))
    for kind in ANEW if plan.task_file is None and plan.adaptation_steps > 0 else ():
        each = TrainedAnew.each(kind, definition, plan, headline.tasks, recipe)
        kept = [reference.read(folders) for reference in each]  # [K+1, n] each
        if all(returns is not None for returns in kept):
            found[kind] = trained_beside(headline, np.stack([r for r in kept if r is not None], 1))
        else:
            words = ["metarl", "references", *config, "--kind", kind, *size]
            missing[kind] = command_line(words)
    return found or None, missing
