"""Things that a setting names: a class joins by one decorator, in one file of its own; and how
settings that are none are refused."""

import difflib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Registry(dict):
    """Name → class or function. A class joins by ``@MECHANISMS.register("softmax")``; a name
    ``package.module:Name`` is imported, so that a file outside of ``lib`` takes part, in other
    processes too."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator that enters what it decorates under ``name``."""

        def enter(found: Any) -> Any:
            self[name] = found
            return found

        return enter

    def find(self, name: str) -> Any:
        """What is called ``name``; a ValueError lists the names there are."""
        if name in self:
            return self[name]
        if str(name).partition(":")[2]:
            try:
                return pkgutil.resolve_name(name)
            except (ImportError, AttributeError, ValueError) as error:
                raise ValueError(f"{self.what}={name!r}: cannot be imported ({error})") from error
        raise ValueError(f"{self.what}={name!r}: choose one of {', '.join(self)}, or give "
                         "module:Name")


def check_choices(**choices: tuple[Any, Iterable[str]]) -> None:
    """Raise a ValueError for an argument that is none of its choices: name=(value, choices)."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{name}={value!r}: choose one of {', '.join(known)}")


def refuse_unknown(level: str, given: Any, known: Iterable[str]) -> None:
    """Raise a ValueError for settings of a ``level`` that are none, or not ``known``; it names the
    nearest known one."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{level or 'recipe'}={given!r}: give names and values")
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"unknown {level} setting {name}{hint}; known: ".replace("  ", " ")
                             + ", ".join(sorted(known)))
