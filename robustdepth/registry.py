"""Named choices of one kind, each listed once, where it is defined; what offers or looks up choices asks the list."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Container
from typing import Generic, TypeVar

from robustdepth.errors import UserError, nearest

T = TypeVar("T")


class Registry(dict[str, T], Generic[T]):
    """The choices of one kind by name, in the order in which they were added.

    >>> CORRUPTIONS: Registry[Callable] = Registry("corruption")
    >>> @CORRUPTIONS.listed("negative")
    ... def negative(image, level, key): ...
    """

    def __init__(self, kind: str, taken: Container[str] = ()):
        super().__init__()
        self.kind = kind  # in the words of an error
        self.taken = taken  # names that mean something else where these choices are named

    def add(self, name: str, choice: T) -> T:
        """Lists a choice, and returns it.

        Raises:
          UserError: the name is taken, or is none that configs and command lines can hold.
        """
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
            raise UserError(f"{name!r} is no name for a {self.kind}: use letters, digits and _ . - only.")
        if name in self:
            raise UserError(f"{self.kind} {name!r} exists already, {self[name]!r}: choose another name.")
        if name in self.taken:
            raise UserError(f"{self.kind} {name!r}: the name means something else already, choose another one.")
        self[name] = choice
        return choice

    def listed(self, name: str) -> Callable[[T], T]:
        """`add` as a decorator of a function or class."""
        return lambda choice: self.add(name, choice)

    def find(self, name: str) -> T:
        """The choice of that name. Raises UserError with the nearest names where there is none."""
        if name not in self:
            raise UserError(f"unknown {self.kind} {name!r}: {nearest(name, self)}")
        return self[name]


def import_all(package: str) -> None:
    """Imports every module of a package, so that all are listed that a module of it adds."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
