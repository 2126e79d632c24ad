"""Something of one's own to begin with: ``metarl new environment my_env.py``."""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from pathlib import Path

import metarl
from metarl.errors import UserError
from metarl.storage.files import writing

TEMPLATES = Path(metarl.__file__).parent / "templates"
_USAGE = """\
Write an environment, an agent or an algorithm of your own, with its config, to begin with.

  metarl new environment FILE.py
  metarl new agent FILE.py
  metarl new algorithm FILE.py

What is written runs as it stands; the command that runs it is printed.
"""
KINDS = {
    "environment": "metarl train {config}",
    "agent": "metarl evaluate --agent {path} --config {config}",
    "algorithm": "metarl train {config}",
}
"""What can be written, and the command that runs it."""


def run(argv: Sequence[str]) -> int:
    """Write what the words ask for, and print what to do with it."""
    from metarl.config.messages import names_there_are

    if not argv or set(argv) & {"--help", "-h"}:
        print(_USAGE, end="")
        return 0
    kind, *files = argv
    if kind not in KINDS:
        raise UserError(f"There is no template {kind!r}: {names_there_are(kind, KINDS)}.")
    if len(files) != 1:
        raise UserError(f"Give the file to write, as in metarl new {kind} my_{kind}.py.")
    file = Path(files[0])
    module, class_name = _names(file)
    config = file.with_suffix(".yaml")
    for path in (file, config):
        if path.exists():
            raise UserError(f"{path} is there already; choose another name.")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        for path in (file, config):
            text = (TEMPLATES / f"my_{kind}{path.suffix}").read_text(encoding="utf-8")
            text = text.replace(f"my_{kind}", module).replace(f"My{kind.title()}", class_name)
            path.write_text(text.replace("FILE.yaml", str(config)), encoding="utf-8")
    command = KINDS[kind].format(config=config, path=f"{module}:{class_name}")
    print(f"Written: {file} and {config}. As they stand they run by:\n\n  {command}")
    return 0


def _names(file: Path) -> tuple[str, str]:
    """The module in a file of the working folder, and the class that is to stand in it.

    Raises:
        UserError: Python could not import such a file from there.
    """
    parts = file.with_suffix("").parts
    if file.suffix != ".py" or not all(
        part.isidentifier() and not keyword.iskeyword(part) for part in parts
    ):
        raise UserError(
            f"{file} must be a .py file in the working folder or below, named so that Python can "
            "import it: of letters, digits and _, and no word of the language."
        )
    return ".".join(parts), "".join(word[:1].upper() + word[1:] for word in parts[-1].split("_"))
