"""What a program or a command line may ask of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from metarl.config.fields import (
    EPISODES,
    EvaluationConfig,
    PathText,
    Section,
    SplitName,
    ValidationConfig,
)
from metarl.evaluation.plan import BOTH_MODES, EvaluationPlan


class EvaluationOptions(Section):
    """The tasks and the protocol of an evaluation; None means the value of the run's own config."""

    split: SplitName | None = Field(None, description="which tasks; null: as in the run's config")
    tasks: PathText | None = Field(
        None,
        min_length=1,
        description="CSV or JSON file of tasks of your own, with the names of their columns",
    )
    episodes: int | None = Field(
        None, ge=1, description=f"{EPISODES}; null: as in the run's config"
    )
    adaptation_steps: int | None = Field(
        None, ge=0, description="adaptation steps; null: as in the run's config"
    )
    mode: Literal["stochastic", "deterministic", "both"] = Field(
        "both", description="how actions are chosen"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the evaluation's random streams")
    evaluation_seeds: int | None = Field(
        None,
        ge=1,
        description="measured with so many seeds, from --seed on, and averaged; null: as in the "
        "run's config",
    )
    forget: bool = Field(
        False, description="begin anew instead of adapting: an ablation, which should gain nothing"
    )

    @model_validator(mode="after")
    def _check_tasks(self) -> Self:
        if self.split is not None and self.tasks is not None:
            raise ValueError("split and tasks both say which tasks: give one of them")
        return self

    def plan(self, own: EvaluationConfig) -> EvaluationPlan:
        """The evaluation of a run whose config has this section ``evaluation``."""
        k = self.adaptation_steps
        return EvaluationPlan(
            split=self.split or own.split,
            episodes=own.episodes if self.episodes is None else self.episodes,
            adaptation_steps=own.adaptation_steps if k is None else k,
            modes=BOTH_MODES if self.mode == "both" else (self.mode,),
            seed=self.seed,
            num_seeds=own.seeds if self.evaluation_seeds is None else self.evaluation_seeds,
            task_file=None if self.tasks is None else Path(self.tasks),
            forget=self.forget,
            default_steps=k is None and has_default_steps(own),
        )


def has_default_steps(own: EvaluationConfig | ValidationConfig) -> bool:
    """Whether a section of a config leaves the number of adaptation steps at its default."""
    return bool(own.adaptation_steps == type(own).model_fields["adaptation_steps"].default)
