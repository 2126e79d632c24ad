"""The algorithms, one file each, found by name or by import path.

An algorithm is a :class:`metarl.types.Algorithm` class with a ``config_class``, a frozen
pydantic model of its settings. It is built as ``Algorithm(config, observation_space, action_space,
seed, device)``.
"""

from __future__ import annotations

import importlib
from typing import Any

ALGORITHMS: dict[str, tuple[str, str]] = {
    "amortized_bayes": (
        "amortized_bayes:AmortizedBayes",
        "settings.amortized_bayes:AmortizedBayesSettings",
    ),
    "anil": ("anil:ANIL", "settings.gradient:ANILSettings"),
    "cavia": ("cavia:CAVIA", "settings.gradient:CAVIASettings"),
    "e_maml": ("e_maml:EMAML", "settings.gradient:EMAMLSettings"),
    "few_shot_anil": ("few_shot:FewShotANIL", "settings.few_shot:FewShotANILSettings"),
    "few_shot_fomaml": ("few_shot:FewShotFOMAML", "settings.few_shot:FewShotFOMAMLSettings"),
    "few_shot_maml": ("few_shot:FewShot", "settings.few_shot:FewShotMAMLSettings"),
    "few_shot_meta_sgd": ("few_shot:FewShotMetaSGD", "settings.few_shot:FewShotMetaSGDSettings"),
    "few_shot_reptile": ("few_shot:FewShotReptile", "settings.few_shot:FewShotReptileSettings"),
    "fomaml": ("maml:FOMAML", "settings.gradient:FOMAMLSettings"),
    "matching_networks": (
        "matching_networks:MatchingNetworks",
        "settings.embedding:MatchingSettings",
    ),
    "maesn": ("maesn:MAESN", "settings.gradient:MAESNSettings"),
    "maml": ("maml:MAML", "settings.gradient:MAMLSettings"),
    "meta_sgd": ("meta_sgd:MetaSGD", "settings.gradient:MetaSGDSettings"),
    "metagenrl": ("metagenrl:MetaGenRL", "settings.metagenrl:MetaGenRLSettings"),
    "pearl": ("pearl:PEARL", "settings.pearl:PEARLSettings"),
    "promp": ("promp:ProMP", "settings.gradient:ProMPSettings"),
    "prototypical_networks": (
        "prototypical_networks:PrototypicalNetworks",
        "settings.embedding:PrototypicalSettings",
    ),
    "recurrent_dqn": (
        "recurrent_dqn:RecurrentDQN",
        "settings.recurrent_off_policy:RecurrentDQNSettings",
    ),
    "recurrent_sac": (
        "recurrent_sac:RecurrentSAC",
        "settings.recurrent_off_policy:RecurrentSACSettings",
    ),
    "reptile": ("reptile:Reptile", "settings.gradient:ReptileSettings"),
    "rl2": ("rl2:RL2", "settings.rl2:RL2Settings"),
    "varibad": ("varibad:VariBAD", "settings.varibad:VariBADSettings"),
    "versa": ("versa:VERSA", "settings.embedding:VersaSettings"),
}
"""Short name -> where in this package the algorithm is, and where its settings."""


def algorithm_class(name: str) -> Any:
    """The class behind a short name or an import path "package.module:Class".

    Raises:
        ValueError: there is none, or it is no algorithm.
    """
    from metarl.envs.importing import import_class  # here, since it loads the environments

    path = f"{__name__}.{ALGORITHMS[name][0]}" if name in ALGORITHMS else name
    cls = import_class("algorithm", path, ALGORITHMS)
    parts = ("config_class", "collect", "update", "state_dict", "load_state_dict", "agent")
    missing = [part for part in parts if not hasattr(cls, part)]
    if missing:
        raise ValueError(f"The algorithm {name!r} lacks {', '.join(missing)}.")
    return cls


def settings_class(name: str) -> Any:
    """The settings of an algorithm; those of a short name are found without loading torch.

    Raises:
        ValueError: as :func:`algorithm_class`.
    """
    if name not in ALGORITHMS:
        return algorithm_class(name).config_class
    module, _, cls = ALGORITHMS[name][1].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), cls)
