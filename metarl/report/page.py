"""Pages: Markdown from a template, and one self-contained HTML file made from that Markdown.

Templates stand in `metarl/templates`. What a template inserts is literal text: no name that a user
gives can become markup, in either file.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from metarl.report import words
from metarl.storage.files import replace_file, writing

if TYPE_CHECKING:
    from jinja2 import Environment
_MARKUP = re.compile(
    r"""[\\`*<|~$]                   # code, emphasis, HTML, table cells, formulas
    | (?<!\w)_ | _(?!\w)             # emphasis; inside a word it is a letter
    | &(?=\#?\w+;)                   # entities
    | (?<=\w):(?=//) | (?<=\bwww)\.  # addresses, which many programs make links of
    | (?<=\])[(\[:]                  # links
    | \A(?:>|[-+=\#]+(?=\s|\Z))      # at the start: quotations, lists, headings
    | (?<=\A\d)[.)](?=\s|\Z)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Picture:
    """A PNG with its name, which is that of its file without the ending, and a caption."""

    name: str
    caption: str
    data: bytes


def drawn(pictures: Iterable[Picture]) -> list[Picture]:
    """Those that could be drawn."""
    return [picture for picture in pictures if picture.data]


@dataclass(frozen=True)
class ReportFiles:
    """What a report consists of."""

    evaluation: Path
    markdown: Path
    html: Path
    plots: list[Path]


def write_report_files(
    folder: Path, name: str, numbers: str, pictures: Sequence[Picture], page: str
) -> ReportFiles:
    """Write a report; `report.html` comes last, so where it is, all of it is.

    Args:
        folder: Created if it is not there; files of an earlier report are replaced.
        name: Of the JSON file.
        numbers: Its text.
        pictures: Written as PNG files.
        page: The Markdown.

    Raises:
        EnvironmentFailure: The folder cannot be written.
    """
    html = folder / "report.html"
    files = ReportFiles(folder / name, folder / "report.md", html, [])
    with writing(folder, "The report"):
        folder.mkdir(parents=True, exist_ok=True)
        html.unlink(missing_ok=True)
        replace_file(files.evaluation, numbers.encode())
        for picture in pictures:
            files.plots.append(folder / f"{picture.name}.png")
            replace_file(files.plots[-1], picture.data)
        replace_file(files.markdown, page.encode())
        replace_file(html, html_page(page, pictures).encode())
    return files


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a whole report: all its files, and the page to its end."""
    try:
        html = (folder / "report.html").read_text(encoding="utf-8")
        page = (folder / "report.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    pictures = re.findall(r"^!\[.*\]\((\w+\.png)\)$", page, re.MULTILINE)
    return html.rstrip().endswith("</html>") and all((folder / p).is_file() for p in pictures)


def filled(template: str, **content: Any) -> str:
    """A template of `metarl/templates`, filled; everything that it inserts is literal text."""
    return _templates().get_template(template).render(content)


def html_page(markdown: str, pictures: Sequence[Picture]) -> str:
    """The page as one HTML file that loads nothing: style inline, pictures as data."""
    body = html_body(markdown, pictures)
    title = re.search(r"<h1>(.*)</h1>", body)
    heading = Markup(title[1] if title else "")
    return filled("page.html.j2", title=heading, body=Markup(body))


def html_body(markdown: str, pictures: Sequence[Picture]) -> str:
    """The HTML of a page of ours; HTML and links within it stay text."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "xhtmlOut": False}).enable("table")
    parser.disable(["link", "autolink", "reference"])
    files = {f"{picture.name}.png": picture.data for picture in pictures}
    tokens = parser.parse(markdown)
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                data = base64.b64encode(files[str(child.attrs["src"])]).decode("ascii")
                child.attrs["src"] = f"data:image/png;base64,{data}"
    html = str(parser.renderer.render(tokens, parser.options, {}))
    html = html.replace("<table>", '<div class="table"><table>')
    return html.replace("</table>", "</table></div>")


@functools.cache
def _templates() -> Environment:
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("metarl"),
        autoescape=True,
        finalize=literal,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.globals |= {"table": table, "words": words}
    templates.filters |= {"code": code, "json": functools.partial(json.dumps, indent=1)}
    templates.filters["listed"] = lambda items: Markup(", ").join(map(literal, items))
    return templates


def literal(value: object) -> Markup:
    """Text in which nothing is Markdown or HTML, on one line; markup of ours as it is."""
    if isinstance(value, Markup):
        return value
    return Markup(_MARKUP.sub(_escaped, _printable(" ".join(str(value).split()))))


def _escaped(markup: re.Match[str]) -> str:
    """An entity where a backslash would not do for every Markdown program, for HTML above all."""
    text = markup[0]
    return f"&#{ord(text)};" if text in ":.&<>" else f"\\{text}"


def _printable(text: str) -> str:
    """Text whose control characters and halves of characters are written as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def code(text: str) -> Markup:
    """A block of code: indented, since not every Markdown program knows fences."""
    return Markup("\n".join(f"    {_printable(line)}" for line in text.split("\n")))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> Markup:
    """A table; columns but the first `left` are flush right."""
    rule = [Markup("---" if column < left else "---:") for column in range(len(header))]
    lines = [" | ".join(map(literal, line)) for line in (header, rule, *rows)]
    return Markup("\n".join(f"| {line} |" for line in lines))
