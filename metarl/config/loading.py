"""One validated model of YAML and command line.

Two stages: the names of the environment and the algorithm are read first, since their classes say
which fields ``env`` and ``algorithm`` have; then everything is validated as one concrete model.
Environment variables are never read as config.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Literal

from metarl.config.env_fields import env_parameters, fill_preset
from metarl.config.fields import Backend, Config, DeviceName, EnvConfig, RolloutConfig
from metarl.config.messages import Origins, Path, at, dotted, named_origins, names_there_are, shown
from metarl.config.migration import as_recorded, migrate
from metarl.config.model import (
    FURTHER,
    chosen_class,
    config_model,
    further_classes,
    resolve_variants,
)
from metarl.config.trust import EVERYTHING, NOTHING, Trust, named_code
from metarl.config.validation import Option, merged, put, read_fields, split_options, validated
from metarl.config.yaml_text import dump_yaml, read_yaml
from metarl.errors import UserError, message_of

# Fields that a resumed run may change without harm to what it computes.
_FREE_ON_RESUME = (
    "run_dir",
    "iterations",
    "max_env_steps",
    "rollout.physics_threads",
    "rollout.workers",
    "rollout.step_timeout",
    "rollout.backend.",
    "checkpoint.",
    "tracking.",
    "validation.",
    "evaluation.",
    "algorithm.evaluation_",  # an algorithm's settings for evaluation alone
)
_WHY = {
    "device": "sums differ between devices, so the run would no longer repeat",
    "rollout.torch_threads": "sums differ with the number of threads, so the run would no longer "
    "repeat",
    "rollout.shard_tasks": "actions differ in their last bits with the size of the shards, so the "
    "run would no longer repeat",
}


def _fill_preset(
    env: Callable[..., Any],
    model: type[EnvConfig],
    data: dict[str, Any],
    path: Path,
    origins: Origins,
) -> None:
    """Adds a preset's parameters to an environment's section, where they are not given."""
    preset = data.get("preset")
    if preset is None:
        return
    presets: Mapping[str, Mapping[str, Any]] = getattr(env, "presets", {})
    if not isinstance(preset, str) or preset not in presets:
        raise UserError(
            f"{at((*path, 'preset'), origins)}{dotted(path)}.preset is {shown(preset)}, but "
            f"{env.__name__} has no such preset: {names_there_are(str(preset), presets)}."
        )
    as_recorded(env, presets[preset], data)
    for filled in fill_preset(model, presets[preset], data, path):
        origins[filled] = f"preset {preset}"


def default_name(path: FilePath | None) -> str:
    """The config file's stem, made fit to be the name of a folder."""
    stem = re.sub(r"[^\w.-]", "_", path.stem).lstrip(".-")[:100] if path else ""
    return stem or "run"


def concrete_model(
    data: dict[str, Any], origins: Origins, trust: Trust
) -> tuple[type[Config], dict[Path, Callable[..., Any]]]:
    """The config's model for the names in ``data``, and the environments' classes by section.

    ``data`` and ``origins`` are brought up to date, see :mod:`metarl.config.migration` and
    :mod:`metarl.config.model`.

    Raises:
        UserError: Either cannot be found, or is code that nobody trusts.
    """
    trust.check(data, origins)
    env = chosen_class(("env",), "point_navigation", data, origins)
    further = further_classes(data, origins)
    settings: Any = chosen_class(("algorithm",), "maml", data, origins)
    migrate(settings, data["algorithm"], origins)
    settings = resolve_variants(settings, data["algorithm"], origins, ("algorithm",))
    rollout: type[RolloutConfig] = RolloutConfig
    if isinstance(data.setdefault("rollout", {}), dict):
        rollout = resolve_variants(rollout, data["rollout"], origins, ("rollout",))
    name, several = data["algorithm"]["name"], tuple(further.items())
    model = config_model(env, several, settings, name, rollout)
    return model, {("env",): env} | {(FURTHER, n): maker for n, maker in several}


def load_config(path: FilePath | None, overrides: Sequence[str], trust: Trust = NOTHING) -> Config:
    """Reads, merges and validates a config.

    Args:
        path: A YAML file, or None for the defaults.
        overrides: Command-line words, ``["--a.b", "value", "--c=value"]``; they win over the file.
        trust: What a file that lies in a run folder may name; any other may name everything.

    Raises:
        UserError: Anything wrong with either, in one sentence.
    """
    return load_options(path, split_options(overrides), trust)


def load_options(
    path: FilePath | None, options: Sequence[Option], trust: Trust = NOTHING
) -> Config:
    """:func:`load_config` with the overrides already split."""
    data, origins = read_yaml(path) if path else ({}, {})
    data.setdefault("name", default_name(path))
    return config_from(data, options, origins, trust.in_file(path))


def backend_from(options: Sequence[Option]) -> Backend:
    """What options ``rollout.backend`` and so on mean to a program that does not train.

    Raises:
        UserError: Anything wrong with them.
    """
    shards = {"rollout": {"shard_tasks": 1}}  # which only training has
    return config_from(shards, options).rollout.backend


def config_from(
    data: Mapping[str, Any],
    options: Sequence[Option] = (),
    origins: Origins | None = None,
    trust: Trust = EVERYTHING,
) -> Config:
    """The config that plain data mean, with options of a command line, which win.

    Args:
        data: Sections and fields, ``{"seed": 3, "env": {"name": "point_navigation"}}``.
        options: See :func:`metarl.config.validation.split_options`.
        origins: Where the values of ``data`` were given, for the sentence about a wrong one.
        trust: Which code the data may name.

    Raises:
        UserError: Anything wrong with either, in one sentence.
    """
    plain, origins = merged(data, options, origins)
    model, makers = concrete_model(plain, origins, trust)
    read_fields(model, plain, origins)
    for path, maker in makers.items():
        section, data_of_it = model, plain
        for part in path:
            kind: Any = section.model_fields[str(part)].annotation
            section, data_of_it = kind, data_of_it[str(part)]
        _fill_preset(maker, kind, data_of_it, path, origins)
    config = validated(model, plain, origins=origins)
    # Twice: defaults pass through JSON too (a tuple where the type allows a list), so that the
    # config equals itself written and read again.
    again = validated(model, config.model_dump(mode="json"), origins=origins)
    return again.given_at(origins)


def adopt(config: Config, saved: Config) -> Config:
    """``config`` with what it leaves to the machine (``auto``, 0) taken from the saved run."""
    device = saved.device if config.device == "auto" else config.device
    threads = config.rollout.torch_threads or saved.rollout.torch_threads
    return _on_machine(config, device, threads)


def resolve(config: Config) -> Config:
    """Settles what the machine decides: device, threads of the update, run folder.

    Raises:
        UserError: The environment refuses a parameter, or cuda is asked for and there is none.
    """
    from metarl.envs.cores import num_cores  # late: it loads Gymnasium

    _check_environments(config)
    threads = config.rollout.torch_threads or num_cores()
    settled = _on_machine(config, resolve_device(config.device, config.origins), threads)
    return settled.model_copy(update={"run_dir": str(config.run_folder)})


def _on_machine(config: Config, device: DeviceName, torch_threads: int) -> Config:
    rollout = config.rollout.model_copy(update={"torch_threads": torch_threads})
    return config.model_copy(update={"device": device, "rollout": rollout})


def _check_environments(config: Config) -> None:
    """Builds few-shot tasks, or one lane if it is natively batched: their constructors know."""
    from metarl import envs

    for which, section in config.envs.items():
        maker = envs.env_maker(section.name)
        tasks, params = section.tasks, env_parameters(config, which)
        try:
            if envs.is_few_shot(maker):
                envs.make_tasks(section.name, tasks=tasks, params=params)
            elif envs.is_batched(maker):  # of others worker processes report it when they start
                envs.make(section.name, 1, num_threads=1, tasks=tasks, params=params).close()
        except (ValueError, TypeError) as error:
            raise refused_environment(which, error, config.origins) from error


def refused_environment(which: str, error: Exception, origins: Origins) -> UserError:
    """What an environment's constructor refuses, as a sentence about its section."""
    path = (which,) if which == "env" else (FURTHER, which)
    said = f"{dotted(path)}: {message_of(error)}"
    return UserError(named_origins(said, path, origins) + said)


def resolve_device(device: DeviceName, origins: Origins | None = None) -> Literal["cpu", "cuda"]:
    """``auto`` as what there is.

    Args:
        device: As a config names it.
        origins: Where the config's values were given.

    Raises:
        UserError: cuda is asked for and there is none.
    """
    if device == "cpu":
        return "cpu"
    import torch  # which takes over a second

    there_is_one = torch.cuda.is_available()
    if device == "cuda" and not there_is_one:
        where = at(("device",), origins or {})
        raise UserError(f"{where}device is cuda, but torch finds no CUDA device on this machine.")
    return "cuda" if there_is_one else "cpu"


def config_to_dict(config: Config) -> dict[str, Any]:
    """The whole config as plain values, names first."""
    data = config.model_dump(mode="json")
    if not data[FURTHER]:
        del data[FURTHER]
    algorithm = data["algorithm"]
    data["algorithm"] = {"name": algorithm.pop("name"), **algorithm}
    return data


def config_to_yaml(config: Config) -> str:
    """The whole resolved config; loading it again gives an equal config."""
    return dump_yaml(config_to_dict(config))


def flat(config: Config) -> dict[str, Any]:
    """Every field of a config: ``{dotted name: plain value}``."""

    def flattened(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for key, child in value.items():
                yield from flattened(child, f"{name}.{key}" if name else key)
        else:
            yield name, value

    return dict(flattened(config_to_dict(config), ""))


def fingerprint(config: Config) -> dict[str, Any]:
    """The fields that decide what a run computes, see :func:`flat`.

    Written into every checkpoint, which is refused under a config that differs in one of them.
    """
    from metarl import envs

    fields = {k: value for k, value in flat(config).items() if not k.startswith(_FREE_ON_RESUME)}
    if envs.is_few_shot(envs.env_maker(config.env.name)):
        fields.pop("env.data", None)  # where they lie; which they are, a hash tells
    return fields


def differences(a: Config, b: Config) -> list[str]:
    """What forbids to resume run ``a`` under config ``b``: a clause a field, [] if nothing."""
    before, now = fingerprint(a), fingerprint(b)
    clauses = []
    for name in before | now:
        if before.get(name, "absent") != now.get(name, "absent"):
            was, is_now = (shown(x[name]) if name in x else "absent" for x in (before, now))
            why = f" ({_WHY[name]})" if name in _WHY else ""
            clauses.append(f"{name} was {was} and is {is_now} now{why}")
    return clauses


def changes(made_with: Mapping[str, Any], config: Config) -> list[str]:
    """What forbids to go on from a checkpoint with this fingerprint: as :func:`differences`.

    A field that did not exist yet counts as its default, an earlier name as today's.
    """
    data: dict[str, Any] = {}
    for name, value in made_with.items():
        put(data, name, value)
    trusted = named_code(config_to_dict(config)).values()
    for path, name in named_code(data).items():
        if name not in trusted:  # a stranger's checkpoint may name any code
            is_now = shown(flat(config).get(dotted(path)))
            return [f"{dotted(path)} was {shown(name)} and is {is_now} now"]
    return differences(config_from(data), config)
