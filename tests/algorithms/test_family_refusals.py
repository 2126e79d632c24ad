"""What the algorithms that adapt by gradient steps refuse: one sentence that says why."""

from __future__ import annotations

from pathlib import Path

import pytest

import train
from metarl.config.help import config_lines
from metarl.config.validation import Option
from tests.cli.test_end_to_end import refusal
from tests.programs import write_config

REFUSED = {
    "promp --outer trpo": "algorithm.outer is 'trpo', but must be ppo: ProMP's objective is",
    "promp --outer adam": "trpo and adam go with maml and inner_estimator lvc.",
    "promp --inner_estimator dice": "algorithm.inner_estimator is 'dice', but must be lvc: ProMP",
    "promp --first_order true": "algorithm.first_order is true, but must be false: ProMP's low-var",
    "promp --outer.max_kl 0.02": "there is no field algorithm.outer.max_kl with outer ppo; there",
    "promp --adaptation_steps 0": "must be at least 1: without an adaptation step there is no KL",
    "reptile --outer trpo": "algorithm.outer is 'trpo', but must be one of sgd, adam: Reptile goes",
    "reptile --outer ppo": "where adaptation led, and has no surrogate to improve.",
    "reptile --inner_estimator lvc": "must be log_prob: Reptile takes no Hessian",
    "reptile --adaptation_steps 0": "must be at least 1: with the update's own step alone it is",
    "reptile --outer.max_kl 0.02": "there is no field algorithm.outer.max_kl with outer sgd",
    "fomaml --first_order false": "must be true: with the second-order term it is maml.",
    "fomaml --inner_estimator dice": "inner_estimator is dice, but must be log_prob",
    "maml --first_order true --inner_estimator lvc": "first_order: that drops the Hessian",
    "maml --inner_estimator dice --outer.curvature_every 2": "curvature_every is 2, but must be 1",
    "maml --outer adam --outer.max_kl 0.02": "algorithm.outer.max_kl with outer adam; there are:",
    "maml --outer.lr 0.01": "there is no field algorithm.outer.lr with outer trpo; there are",
    "maml --outer sgd": "algorithm.outer is 'sgd', but must be one of trpo, ppo, adam.",
    "e_maml --inner_estimator lvc": "be log_prob: the other Hessians count some of the exploring",
    "e_maml --tasks 1": "must be at least 2: the exploring in a task is judged by the return in",
    "e_maml --adaptation_steps 0": "without an adaptation step there is nothing to explore for.",
    "meta_sgd --adaptation_steps 0": "without an adaptation step there is no rate to learn.",
    "cavia --adaptation_steps 0": "without an adaptation step the context stays 0.",
    "cavia --context 0": "algorithm.context is 0, but must be at least 1.",
    "maesn --adaptation_steps 0": "without an adaptation step there is no latent to adapt.",
    "maesn --latent_std 0": "algorithm.latent_std is 0, but must be greater than 0.",
    "maesn --adapted head": "algorithm.adapted is 'head', but must be one of all, latent.",
    "maesn --first_order true --inner_estimator lvc": "first_order: that drops the Hessian",
    "maml --action_noise trial": "algorithm.action_noise is 'trial', but must be one of step, epi",
    "anil --adaptation_steps 0": "without an adaptation step there is no head to adapt.",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_a_method_is_not(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = words.replace("--", "--algorithm.").split()
    config = write_config(tmp_path, algorithm={"name": name})
    run = tmp_path / "run"
    said = refusal(train.main, ["--config", config, "--run-dir", run, *options], capsys)
    assert REFUSED[words] in said
    assert said.startswith("error: command line: " if "algorithm." in said else "error: ")
    assert not run.exists()


def test_the_help_says_what_is_fixed_and_whose_a_setting_is() -> None:
    text = " ".join("\n".join(config_lines(None, [Option("algorithm.name", "promp")])).split())
    assert "--algorithm.first_order false never: the second-order term is ProMP's own" in text
    assert "inner gradient steps in training (default 1; >= 1)" in text
    assert "--algorithm.outer.clip NUMBER ε of the ratio (default 0.2; > 0; < 1)" in text
    assert "algorithm.outer.max_kl" not in text
