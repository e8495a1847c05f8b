"""Components of the behaviour contract: how they join, are compared and get a new version."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping

from lib.files import plain, write_text
from lib.report import contract

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


def changed(name: str) -> str | None:
    """What a component gives that the contract does not say; None if all is as it was."""
    if name not in contract.golden():
        return "is new"
    found, wanted = COMPONENTS[name](), contract.golden()[name]["numbers"]
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
    known, told = contract.golden() if contract.PATH.exists() else {}, []
    if unknown := set(names) - set(COMPONENTS):
        raise ValueError(f"no component {', '.join(sorted(unknown))}")
    for name, function in COMPONENTS.items():
        if name in names or name not in known:
            version = known.get(name, {"version": 0})["version"] + 1
            known[name] = {"version": version, "numbers": function()}
            told.append(f"{name}: version {version}")
        known[name]["needs"] = NEEDS[name]
    told += [f"{name}: gone" for name in set(known) - set(COMPONENTS)]
    parts = []
    for name in COMPONENTS:  # one line a case, so that a change is seen where it is
        one = known[name]
        cases = ",\n".join(f"  {json.dumps(case)}: {json.dumps(plain(list(numbers), 7))}"
                           for case, numbers in one["numbers"].items())
        parts.append(f'{json.dumps(name)}: {{"version": {one["version"]}, '
                     f'"needs": {json.dumps(one["needs"])}, "numbers": {{\n{cases}}}}}')
    write_text(contract.PATH, "{\n" + ",\n".join(parts) + "\n}\n")
    return told
