"""Functions that a notebook defines, for the tests: taken from its source without running it."""

from __future__ import annotations

import ast
import re
from typing import Any

from lib.profiles import ROOT


def solutions(notebook: str) -> list[str]:
    """The blocks of code between fences in the solutions of a notebook, in order."""
    path = next((ROOT / "notebooks").glob(f"{notebook}_*.py"))
    text = path.read_text().partition("<summary>Solutions")[2].partition("</details>")[0]
    blocks = re.findall(r"^# ```python\n(.*?)^# ```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^# ?", "", block, flags=re.MULTILINE) for block in blocks]


def shown(notebook: str, names: set[str] | tuple[str, ...], **space: Any) -> dict[str, Any]:
    """The functions, classes and constants ``names`` of a notebook; ``space``: what they use."""
    path = next((ROOT / "notebooks").glob(f"{notebook}_*.py"))

    def name(node: ast.stmt) -> str:
        return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else getattr(
            node, "name", "")

    wanted = [node for node in ast.parse(path.read_text()).body if name(node) in names]
    assert {name(node) for node in wanted} == set(names), f"{path.name} defines others"
    exec(compile(ast.Module(wanted, []), str(path), "exec"), space)
    return space
