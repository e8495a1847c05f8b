"""The behaviour contract: golden numbers of every component of the code, and a version of each.

``results/contract.json`` holds, for each component, a version and the numbers that its code has on
small fixed inputs; ``tests/test_contract.py`` computes them again. A result keeps the versions of
the components that it used, and is stale when one of them has been raised since."""

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from lib.profiles import ROOT

PATH = ROOT / "results/contract.json"


def golden() -> dict[str, dict[str, Any]]:
    """``{component: {"version": 1, "needs": [components], "numbers": {case: [...]}}}``."""
    return json.loads(PATH.read_text())


def versions(patterns: Iterable[str] = ("*",), profile: str = "*") -> dict[str, int]:
    """The present version of every component that fits one of ``patterns`` (``augment.*``), and of
    what these need; ``{profile}`` in a name stands for the profile that is run. Raises: ValueError
    for a pattern that fits none."""
    known, found, left = golden(), {}, list(patterns)
    while left:
        pattern = left.pop().format(profile=profile)
        names = {name for name in known if fnmatchcase(name, pattern)}
        if not names:
            raise ValueError(f"no component {pattern!r} in {PATH.name}: {', '.join(known)}")
        left += [need for name in names - set(found) for need in known[name].get("needs", ())]
        found |= {name: known[name]["version"] for name in names}
    return dict(sorted(found.items()))
