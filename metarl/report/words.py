"""The words that pages, figures and the terminal share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from metarl.evaluation.measures import RETURN, Measure
from metarl.evaluation.reference_kinds import ANEW, FINE_TUNED, FLOOR, FROM_SCRATCH, ORACLE

if TYPE_CHECKING:
    from metarl.evaluation.comparison import Comparison, GroupMode
    from metarl.evaluation.measurements import FewShot
    from metarl.evaluation.result import (
        AdaptiveReference,
        EvaluationResult,
        ModeResult,
        Reference,
    )

REFERENCES = {
    ORACLE: "a policy trained with the task in its observation",
    FLOOR: "one policy trained on all tasks, without adaptation: the floor",
    FROM_SCRATCH: "PPO from random weights on each task, with the agent's own experience there",
    FINE_TUNED: "the multitask policy, trained on with the agent's own experience there",
    "random": "uniformly random actions",
    "optimum": "the best possible return with the task known, computed",
}
ADAPTIVE_REFERENCES = {
    "bayes_optimal": "the Bayes-optimal agent, planned by dynamic programming",
    "gittins": "the arm of the largest finite-horizon Gittins index",
    "thompson": "Thompson sampling",
    "ucb1": "UCB1: each arm once, then the largest upper confidence bound",
    "psrl": "posterior sampling: before each episode an MDP is drawn from the posterior",
    "reinforce": "fresh policies, trained by off-policy REINFORCE in place of the objective",
    "td3": "fresh policies, trained by stable-baselines3's TD3",
    "ddpg": "fresh policies, trained by stable-baselines3's DDPG",
    "ppo": "fresh policies, trained by stable-baselines3's PPO",
}
_FEW = 10  # episodes that are listed in a sentence
BAYES_ADAPTIVE = "Bayes-adaptive (or a lower bound)"
"""What pictures and tables call the best agent that must find the task out."""
_BAYES_ADAPTIVE_MEANS = (
    "Bayes-adaptive: what an agent earns in each episode that is not told the task, finds it out "
    "and remembers it, computed; what the best adaptive agent earns, or a lower bound of that."
)
FEW_SHOT_REFERENCES = {
    ORACLE: "the family of the tasks known, its parameters fitted to the support set",
    FROM_SCRATCH: "the agent before its training, adapted by its own steps (by 100 of them at "
    "least where inputs are no images)",
    "nearest_neighbour": "the target of the nearest support example",
    "random_features": "the same by the features of an untrained network",
    "chance": "a class at random",
}


def reference_words(by: Measure) -> dict[str, str]:
    """What references beside such a measure are."""
    return FEW_SHOT_REFERENCES if by.samples == "query examples" else REFERENCES


def step_name(adaptation_axis: str, k: int) -> str:
    """What a reader calls measurement k."""
    if adaptation_axis == "episode":
        return f"episode {k + 1}"
    if adaptation_axis == "env_steps":
        return f"after {k} round{'s' * (k > 1)} of training" if k else "before training"
    if k == 0:
        return "before adaptation"
    if adaptation_axis == "support_set":
        return "after reading the support set"
    return f"after {k} gradient step{'s' if k > 1 else ''}"


def estimate(value: float, interval: tuple[float, float] | None, by: Measure = RETURN) -> str:
    """E.g. "-3.11 [-3.53, -2.70]", or "-3.11 [–]" where one task gives no interval."""
    decimals = by.decimals if abs(value) < 100 else 1
    if interval is None:
        return f"{value:.{decimals}f} [–]"
    return f"{value:.{decimals}f} [{interval[0]:.{decimals}f}, {interval[1]:.{decimals}f}]"


def mode_words(result: EvaluationResult, mode: ModeResult | GroupMode | None = None) -> str:
    """After a name how it acts: ", stochastic"; or predicts: ", transductive", or nothing."""
    if result.few_shot is not None:
        return ", transductive" * bool(result.few_shot.transductive)
    return f", {(mode or result.headline).action_mode}"


def transductive_words(few_shot: FewShot) -> str:
    """Whether the query examples help each other."""
    return {
        True: "Transductive: the query examples of a task are predicted together, by what they "
        "have in common.",
        False: "Not transductive: each query example is predicted alone.",
        None: "Whether predictions are transductive is not known: the agent does not tell.",
    }[few_shot.transductive]


def calibration_errors(result: EvaluationResult) -> list[float] | None:
    """Expected calibration error at each measurement; None where there are no classes."""
    return None if result.calibration is None else [each.error for each in result.calibration]


def adaptive_sentences(label: str, known: Mapping[str, AdaptiveReference] | None) -> list[str]:
    """What agents earn that the environment names, and who is ahead, a sentence each."""
    said = []
    for name, reference in (known or {}).items():
        episodes = len(reference.episodes)
        trial = f"over the {episodes} episodes" if episodes > 1 else "here"
        trial = "over the whole training" if name in ANEW else f"{trial}, paired by task,"
        said.append(
            f"{name}: {earned_by(reference)}; {label} {trial} is {reference.difference.verdict}."
        )
    return said


def earned_by(reference: AdaptiveReference) -> str:
    """What an agent earns in its episodes, of many the first and the last."""
    earned = [estimate(each.mean, each.ci95) for each in reference.episodes]
    return ", ".join(earned if len(earned) <= _FEW else [earned[0], "…", earned[-1]])


def success_words(mode: ModeResult | GroupMode, k: int) -> str:
    """E.g. "0.83 [0.74, 0.90]", the share of successful episodes at measurement k."""
    if mode.success_rate is None or mode.success_ci95 is None:
        return "–"
    return estimate(mode.success_rate[k], mode.success_ci95[k])


def on_training_tasks(result: EvaluationResult) -> bool:
    """Whether the agent was meta-trained on the very tasks it is measured on.

    Policies that are trained anew are trained on any tasks, in any environment.
    """
    return result.split == "training tasks" and result.x != "env_steps"


def tasks_in_words(result: EvaluationResult) -> str:
    """E.g. "40 held-out tasks", or "12 tasks of velocities.csv"."""
    if result.split.startswith("tasks of "):
        one = len(result.tasks) == 1
        return f"1 task{result.split[5:]}" if one else f"{len(result.tasks)} {result.split}"
    kind = result.split.replace("_", "-")
    if result.split == "training tasks":
        kind = "training" * on_training_tasks(result)
    words = [str(len(result.tasks)), kind, "task" + "s" * (len(result.tasks) > 1)]
    return " ".join(filter(None, words))


def seeds_in_words(result: EvaluationResult) -> str:
    """E.g. "evaluation seed 0", or "10 evaluation seeds (0 to 9)"."""
    seeds = result.evaluation_seeds
    if len(seeds) == 1:
        return f"evaluation seed {seeds[0]}"
    return f"{len(seeds)} evaluation seeds ({seeds[0]} to {seeds[-1]})"


def notes(result: EvaluationResult, bayes_optimal: Sequence[Reference] | None) -> list[str]:
    """What else a table's numbers are: means over several evaluation seeds; of one task alone."""
    said = []
    if len(result.evaluation_seeds) > 1:
        said.append(
            f"Every {result.by.noun} is a mean over {seeds_in_words(result)}; ± over evaluation "
            "seeds: standard deviation of their means, how far a single evaluation strays."
        )
    if result.success_means is not None:
        said.append(f"Success: share of episodes with {result.success_means}, mean over tasks.")
    for name, meaning in (result.episode_measures_mean or {}).items():
        said.append(f"{name.capitalize()}: {meaning}, mean over episodes and tasks.")
    if result.calibration is not None:
        said.append(
            "Calibration error: how far the confidence of predictions lies from the share of them "
            "that is right, mean over 15 bins of confidence by their numbers of predictions."
        )
    if bayes_optimal is not None:
        said.append(_BAYES_ADAPTIVE_MEANS)
    if result.x == "env_steps" and len(result.evaluation_seeds) > 1:
        over = "seeds" if len(result.tasks) == 1 else "seeds and tasks"
        said.append(f"Every evaluation seed is a training of its own: intervals are over {over}.")
    elif len(result.tasks) == 1:
        said.append("There is one task, so there are no intervals, which are over tasks.")
    return said


def verdict_words(result: EvaluationResult) -> str:
    """The sentence that a reader in a hurry reads."""
    helps = result.headline.adaptation_helps
    if helps is None:
        return "No adaptation step was measured."
    return f"{helps.verdict[0].upper()}{helps.verdict[1:]}"


def verdict_meaning(result: EvaluationResult) -> str:
    """What the verdict's numbers are."""
    if result.headline.adaptation_helps is None:
        return "The agent was measured as it was trained."
    names = [step_name(result.x, k) for k in (result.adaptation_steps, 0)]
    if result.headline.adaptation_helps.ci95 is None:
        return f"{result.by.title} {names[0]} minus {names[1]}, on one task."
    said = f"{result.by.title} {names[0]} minus {names[1]}"
    return f"{said}: mean over tasks, paired by task, [95 % interval]."


def adaptation_sentences(comparison: Comparison) -> list[str]:
    """Did adaptation help? A sentence a group."""
    sentences = []
    for group in comparison.groups:
        helps = group.headline.adaptation_helps
        said = "no adaptation step was measured" if helps is None else helps.verdict
        sentences.append(f"{group.label}: {said}.")
    return sentences


def pair_sentences(comparison: Comparison) -> list[str]:
    """E.g. "rl2 against maml, after 4 and 120 episodes of experience: better: +3.1 [1.0, 5.2]; …"

    A sentence for every two groups, each after its last adaptation.
    """
    return [
        f"{pair.a} against {pair.b}, after {pair.experience} {comparison.first.by.experience}: "
        f"{pair.difference.verdict}; probability of improvement "
        f"{estimate(pair.improvement.value, pair.improvement.ci95)}."
        for pair in comparison.last
    ]
