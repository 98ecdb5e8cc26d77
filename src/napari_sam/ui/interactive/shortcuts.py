"""Keys of an annotation session: which there are, what the user made of them, and how they are bound and given back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from napari.utils.key_bindings import coerce_keybinding

from napari_sam.errors import ConfigError
from napari_sam.workflows.annotating.preferences import read_preference, write_preference

PREFERENCE = "interactive_shortcuts"


@dataclass(frozen=True, slots=True)
class Shortcut:
    """One act and its key."""

    act: str
    """Name of the method of the session's control that is called."""
    key: str
    """As napari writes keys: "Enter", "Ctrl+Z"."""
    about: str
    """What it does, for the table and the tooltip."""


SHORTCUTS = (
    Shortcut("commit", "Enter", "Commit the current object to the labels"),
    Shortcut("remove_last_prompt", "Backspace", "Take back the last prompt"),
    Shortcut("cycle", "W", "Next of the masks offered: whole, part, subpart"),
    Shortcut("next_object", "N", "Put this object aside and start the next one"),
    Shortcut("commit_all", "Shift+Enter", "Commit this object and all that were put aside"),
    Shortcut("discard", "Escape", "Give up the current object"),
    Shortcut("undo", "Ctrl+Z", "Take back the last act"),
    Shortcut("redo", "Ctrl+Shift+Z", "Do it again"),
    Shortcut("reopen", "R", "Reopen the object under the pointer with its prompts"),
    Shortcut("delete", "Delete", "Delete the object under the pointer"),
    Shortcut("mark", "G", "Mark the object under the pointer for merging, or unmark it"),
    Shortcut("merge", "J", "Join the marked objects to one"),
    Shortcut("tool_box", "D", "Ctrl + drag draws a box"),
    Shortcut("tool_scribble", "S", "Ctrl + drag scribbles (with Shift: off the object)"),
    Shortcut("tool_lasso", "A", "Ctrl + drag draws around the object"),
    Shortcut("tool_brush", "U", "Ctrl + drag paints a rough mask"),
    Shortcut("tool_knife", "K", "Ctrl + drag cuts the object under the line"),
    Shortcut("toggle_plain_clicks", "T", "Clicks without Ctrl are prompts too"),
    Shortcut("toggle_live", "Q", "Live preview under the pointer"),
)
"""Letters that napari gives no meaning to on Image and Labels layers; where a Labels layer is being painted or drawn
in, its own keys win except for undo and redo, which are one order with everything else."""

ALWAYS_OURS = ("undo", "redo")

MOUSE = (
    ("Ctrl + click", "Positive point"),
    ("Ctrl + Shift + click", "Negative point"),
    ("Ctrl + drag", "What the tool draws: box, scribble, outline, brush or cut"),
)


def read_keys() -> dict[str, str]:
    """The key of each act: the user's own where there is one."""
    stored = read_preference(PREFERENCE, {})
    own = stored if isinstance(stored, dict) else {}
    keys = {shortcut.act: shortcut.key for shortcut in SHORTCUTS}
    return keys | {act: key for act, key in own.items() if act in keys and is_key(key)}


def store_key(act: str, key: str) -> dict[str, str]:
    """Give an act another key, for this and later sessions; returns all keys.

    Raises
    ------
    ConfigError
        If there is no such key, or another act has it.
    """
    if not is_key(key):
        raise ConfigError(f"{key!r} is no key; write it as Enter, N, F5 or Ctrl+Shift+Z.")
    keys = read_keys()
    holder = next((other for other, its in keys.items() if other != act and as_key(its) == as_key(key)), None)
    if holder is not None:
        raise ConfigError(f"{key} already means {about(holder)!r}; give that another key first.")
    defaults = {shortcut.act: shortcut.key for shortcut in SHORTCUTS}
    keys[act] = key
    write_preference(PREFERENCE, {name: its for name, its in keys.items() if its != defaults[name]})
    return keys


def forget_keys() -> dict[str, str]:
    """Back to the keys as shipped; returns them."""
    write_preference(PREFERENCE, {})
    return read_keys()


def about(act: str) -> str:
    """What an act does."""
    return next(shortcut.about for shortcut in SHORTCUTS if shortcut.act == act)


def as_key(text: str) -> Any:
    """A key as napari compares it; Ctrl is Command on a Mac, as Qt has it."""
    return coerce_keybinding(text.replace("Ctrl", "Cmd") if sys.platform == "darwin" else text)


def is_key(text: object) -> bool:
    """Whether napari understands a text as one key with its modifiers."""
    if not isinstance(text, str) or not text.strip():
        return False
    try:
        binding = as_key(text)
    except (ValueError, KeyError):
        return False
    # napari reads what it does not know as the key number 0.
    return len(binding.parts) == 1 and bool(binding.parts[0].key)


class KeyBindings:
    """Binds acts to keys on a viewer and on layers, and gives everything back as it was.

    napari asks the active layer first and the viewer last. Bound on the viewer alone, a key would mean something else
    as soon as a layer has its own use for it; so it is bound on the layers of the session too, never on others.
    """

    def __init__(self, act: Callable[[str], None]) -> None:
        self._act = act
        self._bound: dict[int, tuple[Any, dict[Any, Any]]] = {}
        self._keys: Mapping[str, str] = read_keys()

    def bind(self, holders: Iterable[Any]) -> None:
        """Bind all acts on viewers or layers that do not have them yet."""
        for holder in holders:
            if id(holder) in self._bound:
                continue
            former = {}
            for act, text in self._keys.items():
                key = as_key(text)
                former[key] = holder.keymap.get(key)
                holder.keymap[key] = self._function(act, key)
            self._bound[id(holder)] = (holder, former)

    def release(self, holder: Any) -> None:
        """Give one viewer or layer its keys back."""
        bound = self._bound.pop(id(holder), None)
        if bound is None:
            return
        for key, function in bound[1].items():
            if function is None:
                holder.keymap.pop(key, None)
            else:
                holder.keymap[key] = function

    def release_all(self) -> None:
        for holder, _ in list(self._bound.values()):
            self.release(holder)

    def rebind(self, keys: Mapping[str, str]) -> None:
        """Use other keys from now on."""
        holders = [holder for holder, _ in self._bound.values()]
        self.release_all()
        self._keys = keys
        self.bind(holders)

    def _function(self, act: str, key: Any) -> Callable[[Any], Any]:
        # napari hands the function the viewer or layer it is bound on.
        def run(holder: Any) -> Any:
            own = _napari_function(holder, key)
            if own is not None and act not in ALWAYS_OURS and is_drawn_in(holder):
                return own(holder)
            self._act(act)
            return None

        return run


def is_drawn_in(holder: Any) -> bool:
    """Whether a layer's own tool (brush, fill, polygon, ...) has the mouse and the keys."""
    return str(getattr(holder, "mode", "pan_zoom")) != "pan_zoom"


def _napari_function(holder: Any, key: Any) -> Callable[[Any], Any] | None:
    """What napari does by itself with a key on a layer of this type."""
    for kind in type(holder).__mro__:
        function = getattr(kind, "class_keymap", {}).get(key)
        if function is not None:
            return function if callable(function) else None
    return None
