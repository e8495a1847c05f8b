"""Things that a setting names: a class joins by one decorator, in one file of its own."""

import pkgutil
from collections.abc import Callable, Iterable
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
