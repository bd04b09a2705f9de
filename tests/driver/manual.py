"""What the tests of the manual read: code blocks of pages, message templates of the source."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from .conftest import ROOT

DOCS = ROOT / "docs"
GENERATED = ("run-file.md", "commands.md")
#: What a page writes for the changing part of a message, and a template has there.
ANY, HOLE = "...", "\0"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_INDENTED = re.compile(r"(?:(?<=\n)|\A)(?: {4}.*\n+)+")
_LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')


@dataclass(frozen=True)
class Block:
    """A block of code in a page; ``language`` is empty where the page says none."""

    page: Path
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0]}"


def pages() -> list[Path]:
    """Everything a person reads, in Markdown."""
    own = [*ROOT.glob("*.md"), *ROOT.glob("inputs/*/README.md")]
    return [*own, *(p for p in DOCS.glob("*.md") if p.name not in GENERATED)]


def blocks() -> list[Block]:
    """All blocks of all pages, fenced or indented."""
    found = []
    for page in pages():
        text = page.read_text()
        found += [Block(page, m[1], m[2]) for m in _FENCE.finditer(text)]
        for m in _INDENTED.finditer(_FENCE.sub("", text) + "\n"):
            inside = re.sub(r"^ {4}", "", m[0], flags=re.M)
            found.append(Block(page, "toml" if inside.startswith("[") else "", inside))
    return [block for block in found if block.text.strip()]


def command_lines() -> list[tuple[Block, str]]:
    """Lines of blocks that call ``metamd``, or do so inside ``$(...)``."""
    found = []
    for block in blocks():
        for line in block.text.replace("\\\n", " ").splitlines():
            match = re.match(r"\s*(?:uv run )?(metamd [a-z-].*)", line)
            inner = re.search(r"\$\((metamd [^)]*)\)", line)
            found += [(block, m[1]) for m in (match, inner) if m]
    return found


def messages(page: Path) -> list[str]:
    """The first column of a page's tables, where it is code."""
    rows = re.findall(r"^\| (`+)(.+?)\1 \|", page.read_text(), re.M)
    return [text.strip() for _, text in rows]


def says(template: str, message: str) -> bool:
    """Whether a template can give the message."""
    parts = [re.escape(part.strip()) for part in message.split(ANY)]
    return re.search(".*".join(parts), template, re.S) is not None


def templates() -> set[str]:
    """All texts of the package and of the plugins, with holes where values go."""
    found: set[str] = set()
    for path in (ROOT / "driver" / "metamd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = node.values
                found.add(
                    "".join(str(p.value) if isinstance(p, ast.Constant) else HOLE for p in parts)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    for path in (ROOT / "plumed_cvs").rglob("*"):
        if path.suffix in (".h", ".cpp"):
            found |= _cpp_templates(path.read_text())
    return found


def _cpp_templates(text: str) -> set[str]:
    """String literals, joined where they make one expression."""
    found, current, end = set(), "", 0
    for match in _LITERAL.finditer(text):
        between = text[end : match.start()]
        literal = match[1].replace("{}", HOLE).replace('\\"', '"')
        if current and not between.strip():
            current += literal
        elif current and not re.search("[;{}]", between):
            current += HOLE + literal
        else:
            found.add(current)
            current = literal
        end = match.end()
    return {*found, current}
