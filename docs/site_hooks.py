"""Hooks of the site: pages link to files beside docs/, and the API pages find metarl.envs in envs/.

A page refers to a picture or a config as it lies in the repository, `../results/x.png`, so that the
link holds there too; in the site such files are copied to the same place below its root.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(?<=\]\()(?:\.\./)+[^)\s#]+")


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: Any) -> Any:
    """Lay the package out as it is imported: the directory envs/ is metarl.envs."""
    laid_out = Path(tempfile.mkdtemp(prefix="metarl-docs-"))
    shutil.copytree(ROOT / "metarl", laid_out / "metarl")
    shutil.copytree(ROOT / "envs", laid_out / "metarl" / "envs")
    python = config.plugins["mkdocstrings"].config.handlers.setdefault("python", {})
    python["paths"] = [str(laid_out)]
    config.extra["laid_out"] = str(laid_out)
    return config


def on_post_build(config: Any) -> None:
    shutil.rmtree(config.extra["laid_out"], ignore_errors=True)


def on_files(files: Files, config: Any) -> Files:
    """Add every file outside docs/ that a page links to."""
    for page in list(files.documentation_pages()):
        for link in LINK.findall(page.content_string):
            path = _outside(page.src_uri, link)
            if path and (ROOT / path).is_file() and files.get_file_from_path(path) is None:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links out of docs/ into links to the copies."""

    def moved(link: re.Match[str]) -> str:
        path = _outside(page.file.src_uri, link[0])
        return posixpath.relpath(path, posixpath.dirname(page.file.src_uri)) if path else link[0]

    return LINK.sub(moved, markdown)


def _outside(page: str, link: str) -> str | None:
    """Where a link of a page leads in the repository; None where that is within docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith("docs/") else path
