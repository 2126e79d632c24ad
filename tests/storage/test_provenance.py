"""What `meta.json` says of a run's command, and that it names no folder of the machine."""

import sys

import pytest

from metarl.storage.provenance import metadata


@pytest.mark.parametrize(
    ("program", "written"),
    [
        ("train.py", "python train.py --seed 1"),
        ("/home/me/metarl/train.py", "python train.py --seed 1"),
        ("/home/me/.venv/bin/metarl", "metarl --seed 1"),
        ("/home/me/metarl/metarl/__main__.py", "python -m metarl --seed 1"),
    ],
)
def test_the_command_names_no_folder_of_the_program(monkeypatch, program, written):
    monkeypatch.setattr(sys, "argv", [program, "--seed", "1"])
    assert metadata("cpu", 1, 1)["command"] == written
