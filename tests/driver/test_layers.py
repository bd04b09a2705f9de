"""The rule of the layers: a stage imports ground modules only, never another stage."""

from __future__ import annotations

import ast
from pathlib import Path

DRIVER = Path(__file__).resolve().parents[2] / "driver" / "metamd"
STAGES = {"sample", "select", "augment", "label", "dataset", "train", "validate", "report"}
TOP = {
    "api",
    "loop",
    "improve",
    "summary",
    "judge",
    "single",
    "compare",
    "cli",
    "commands",
    "doctor",
    "template",
    "status",
    "__init__",
}


def imports_of(path: Path) -> set[str]:
    """First part below ``metamd`` of everything a module imports from it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "metamd":
                names = [f"metamd.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("metamd.")}
    return found


def test_stages_import_ground_only() -> None:
    modules = {p: p.relative_to(DRIVER).parts[0].removesuffix(".py") for p in DRIVER.rglob("*.py")}
    names = set(modules.values())
    assert names >= STAGES - {"augment"}
    ground = names - STAGES - TOP
    assert {"config", "frames", "units", "errors", "execution", "workspace"} <= ground
    wrong = []
    for path, name in modules.items():
        used = imports_of(path) & names
        allowed = names if name in TOP else ground | ({name} if name in STAGES else set())
        wrong += [f"{path.relative_to(DRIVER)} imports {other}" for other in used - allowed]
    assert not wrong, wrong
