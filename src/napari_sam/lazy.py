"""Packages whose names load when they are first used, so that settings can be read without torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names_of(package: str, module_of: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for `package` that takes each name from its module, and remembers it.

    No name may be that of a module of the package, which would hide it once that is loaded.
    """

    def look_up(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return look_up
