"""A page as a list of blocks, rendered as Markdown and as one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Verdict:
    """The sentence that a reader in a hurry reads."""

    text: str


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG beside the page."""

    path: Path
    caption: str


Block = Heading | Paragraph | Verdict | Code | Table | Picture


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The page as Markdown; pictures are linked by file name."""
    return "\n\n".join([f"# {title}", *map(_markdown, blocks)]) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page as one HTML file that loads nothing: style inline, pictures as data."""
    body = "\n".join(map(_html, blocks))
    name = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{name}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Paragraph(text):
            return text
        case Verdict(text):
            return f"> **{text}**"
        case Code(text):
            return f"```\n{text}\n```"
        case Table(header, rows):
            rule = ["---:" if numeric else "---" for numeric in _numeric_columns(block)]
            lines = [header, rule, *rows]
            return "\n".join(
                "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
                for line in lines
            )
        case Picture(path, caption):
            return f"![{caption}]({path.name})\n\n*{caption}*"


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Verdict(text):
            return f'<p class="verdict">{html.escape(text)}</p>'
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table(header, rows):
            numeric = _numeric_columns(block)
            lines = "\n".join(_html_row(row, "td", numeric) for row in rows)
            return (
                f'<div class="table"><table><thead>{_html_row(header, "th", numeric)}</thead>\n'
                f"<tbody>\n{lines}\n</tbody></table></div>"
            )
        case Picture(path, caption):
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            text = html.escape(caption)
            return (
                f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
                f"<figcaption>{text}</figcaption></figure>"
            )


def _html_row(cells: Sequence[str], tag: str, numeric: Sequence[bool]) -> str:
    classes = [' class="number"' if number else "" for number in numeric]
    return (
        "<tr>"
        + "".join(
            f"<{tag}{kind}>{html.escape(cell)}</{tag}>"
            for cell, kind in zip(cells, classes, strict=True)
        )
        + "</tr>"
    )


def _numeric_columns(table: Table) -> list[bool]:
    """Columns whose every cell begins like a number or is empty: those are set flush right."""
    return [
        all(row[column][:1] in {"", *"0123456789-+±–"} for row in table.rows)
        for column in range(len(table.header))
    ]


_STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --quiet: #595959; --page: #ffffff;
  --panel: #f3f5f7; --line: #d5d9dd; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --quiet: #a8adb2;
  --page: #16181b; --panel: #22262a; --line: #3a4046; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 1.2rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.4rem 0 0.8rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.6rem; }
p { margin: 0.7rem 0; overflow-wrap: anywhere; }
.verdict { border-left: 4px solid var(--accent); background: var(--panel);
  padding: 0.7rem 0.9rem; font-weight: 600; border-radius: 0 6px 6px 0; }
.table { overflow-x: auto; }
@media (max-width: 600px) { table { font-size: 0.8rem !important; }
  th, td { padding: 0.3rem 0.4rem !important; } }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.6rem; border-bottom: 1px solid var(--line); text-align: left; }
td.number { white-space: nowrap; }
td:first-child { min-width: 7rem; }
td:nth-child(2):not(.number) { min-width: 12rem; }
.number { text-align: right; }
th:first-child, td:first-child { padding-left: 0; }
th { color: var(--quiet); font-weight: 600; }
pre { background: var(--panel); padding: 0.8rem; border-radius: 6px; overflow-x: auto;
  font-size: 0.85rem; line-height: 1.4; }
figure { margin: 1.2rem 0; max-width: 760px; }
img { width: 100%; height: auto; display: block; background: #ffffff; border-radius: 6px;
  border: 1px solid var(--line); }
figcaption { color: var(--quiet); font-size: 0.9rem; margin-top: 0.35rem; }
"""
