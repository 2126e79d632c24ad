"""What agents are measured by, which way is better, and the words for it: all that differs between
returns of episodes and the accuracy or the error of few-shot predictions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MeasureName = Literal["return", "success", "accuracy", "error"]


@dataclass(frozen=True)
class Measure:
    """One of them.

    Attributes:
        name: In files and metrics, such as ``return/step_0``.
        noun: In sentences and on axes.
        heading: Of a table.
        meaning: What a number of the table is.
        falls: Less is better.
        decimals: Of a number that is shown.
        samples: What is measured.
        experience: What an agent adapts on.
        used: The heading of its amount.
        steps: What the length of a training is counted in.
    """

    name: MeasureName
    noun: str
    heading: str
    meaning: str
    falls: bool = False
    decimals: int = 2
    samples: str = "episodes"
    experience: str = "episodes of experience"
    used: str = "episodes used"
    steps: str = "env steps"

    @property
    def title(self) -> str:
        """The noun at the beginning of a sentence."""
        return self.noun.capitalize()

    @property
    def table(self) -> str:
        """The heading as the name of a table or a picture."""
        return self.heading.lower().replace(" ", "_")

    def words(self, better: str, worse: str, unclear: str) -> tuple[str, str, str]:
        """What to say of a difference above zero, below zero, and of one that may be either."""
        return (worse, better, unclear) if self.falls else (better, worse, unclear)


_EXAMPLES = ("query examples", "support examples", "support examples used", "examples")
_OVER = "averaged over the query examples of a task, then over tasks"
_MEASURES = (
    Measure(
        "return",
        "return",
        "Returns",
        "undiscounted sum of rewards of an episode, averaged over the episodes of a task, then "
        "over tasks",
    ),
    Measure(
        "success",
        "success rate",
        "Success rates",
        "share of successful episodes of a task, averaged over tasks",
    ),
    Measure(
        "accuracy",
        "accuracy",
        "Accuracy",
        f"1 where the most probable class is the right one, else 0, {_OVER}",
        False,
        3,
        *_EXAMPLES,
    ),
    Measure(
        "error",
        "squared error",
        "Squared errors",
        f"squared distance of the prediction from the target, {_OVER}; less is better",
        True,
        3,
        *_EXAMPLES,
    ),
)
MEASURES: dict[str, Measure] = {measure.name: measure for measure in _MEASURES}
"""By name; the first of them is what is measured where nobody says."""
RETURN = MEASURES["return"]


def measured_by(metrics: Iterable[str]) -> Measure | None:
    """What metrics of these names tell first of; None if of nothing of the kind."""
    named = {name.partition("/")[0] for name in metrics if "/" in name}
    return next((measure for measure in _MEASURES if measure.name in named), None)
