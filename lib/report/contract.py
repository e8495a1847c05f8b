"""The behaviour contract: golden numbers of every component, and a version of each.

What determines a result is behaviour, not text: a renamed module changes no number, another weight
decay does. ``results/contract.json`` holds, for each component, a version and some numbers that
its code gives on small fixed inputs; ``tests/test_contract.py`` computes them again. A result keeps
the versions of the components that it used, and is stale when one of them has been raised since.

>>> @component("batches", needs=["tokens"])
... def batches() -> dict[str, list[float]]:
...     return {"sized": [...], "plain": [...]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from lib.files import plain, write_text
from lib.profiles import ROOT

PATH = ROOT / "results/contract.json"
RELATIVE, ABSOLUTE = 1e-3, 1e-6  # other processors round otherwise
Cases = Mapping[str, list]
COMPONENTS: dict[str, Callable[[], Cases]] = {}
NEEDS: dict[str, list[str]] = {}


def component(name: str, needs: Iterable[str] = ()) -> Callable[[Callable], Callable]:
    """Decorator of a function without arguments that computes a component's numbers, by case.

    needs: components without which this one does nothing; who uses it uses them. ``{profile}`` in
    a name stands for the profile that is run.
    """

    def enter(function: Callable[[], Cases]) -> Callable[[], Cases]:
        COMPONENTS[name], NEEDS[name] = function, list(needs)
        return function

    return enter


def golden() -> dict[str, dict[str, Any]]:
    """The contract: ``{component: {"version": 1, "needs": [...], "numbers": {case: [...]}}}``."""
    return json.loads(PATH.read_text())


def versions(patterns: Iterable[str] = ("*",), profile: str = "*") -> dict[str, int]:
    """The present version of every component that fits one of ``patterns`` (``augment.*``), and of
    what these need.

    Raises:
        ValueError: a pattern that fits none.
    """
    known, found, left = golden(), {}, list(patterns)
    while left:
        pattern = left.pop().format(profile=profile)
        names = [name for name in known if fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(f"no component {pattern!r} in {PATH.name}: {', '.join(known)}")
        left += [need for name in set(names) - set(found) for need in known[name].get("needs", ())]
        found |= {name: known[name]["version"] for name in names}
    return dict(sorted(found.items()))


def changed(name: str) -> str | None:
    """What a component gives that the contract does not say; None if all is as it was."""
    if name not in golden():
        return "is new"
    found, wanted = COMPONENTS[name](), golden()[name]["numbers"]
    if list(found) != list(wanted):
        return f"has other cases ({', '.join(set(found) ^ set(wanted)) or 'their order'})"
    for case, numbers in wanted.items():
        if len(found[case]) != len(numbers):
            return f"gives {len(found[case])} numbers for {case}, not {len(numbers)}"
        for is_now, was in zip(found[case], numbers, strict=True):
            if not math.isclose(is_now, was, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
                return f"gives {is_now:.7g} for {case}, not {was:.7g}"
    return None


def update(names: Iterable[str] = ()) -> list[str]:
    """Compute ``names`` again and raise their versions; enter what is new, drop what is gone.

    Raises:
        ValueError: there is no such component.
    """
    known, told, names = golden() if PATH.exists() else {}, [], list(names)
    if unknown := set(names) - set(COMPONENTS):
        raise ValueError(f"no component {', '.join(sorted(unknown))}")
    for name, function in COMPONENTS.items():
        if name in names or name not in known:
            version = known.get(name, {"version": 0})["version"] + 1
            known[name] = {"version": version, "numbers": function()}
            told.append(f"{name}: version {version}")
        known[name]["needs"] = NEEDS[name]
    told += [f"{name}: gone" for name in set(known) - set(COMPONENTS)]
    _write({name: known[name] for name in COMPONENTS})
    return told


def _write(known: Mapping[str, Mapping]) -> None:
    """One line a case, so that a change is seen where it is."""
    parts = []
    for name, one in known.items():
        cases = ",\n".join(f"  {json.dumps(case)}: {json.dumps(plain(list(numbers), 7))}"
                           for case, numbers in one["numbers"].items())
        parts.append(f'{json.dumps(name)}: {{"version": {one["version"]}, '
                     f'"needs": {json.dumps(one["needs"])}, "numbers": {{\n{cases}}}}}')
    write_text(PATH, "{\n" + ",\n".join(parts) + "\n}\n")
