"""Dependencies point inwards (docs/architecture.md, "Who may import whom"), read from the source, not from a run."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "napari_sam"

CORE = {"errors", "geometry", "model", "predict", "images"}
MAY_IMPORT = {
    "__init__": {"__init__"},  # checked on its own: it may name every part, but load none
    "errors": set(),
    "lazy": set(),
    "geometry": {"errors"},
    "model": {"errors"},
    "predict": {"errors", "lazy", "geometry", "model"},
    "images": {"errors", "geometry"},
    "tiling": {"errors", "lazy", "geometry", "images"},
    "export": {"errors", "geometry", "images", "tiling"},
    "annotate": {"errors", "geometry", "images", "tiling"},
    "training": CORE,
    "evaluation": CORE | {"lazy"},
    "workflows": CORE | {"lazy", "tiling", "export", "annotate", "training", "evaluation"},
    "cli": {"errors", "workflows"},
    "ui": {"errors", "lazy", "workflows"},
}
RIM = {"cli", "ui"}
TORCH_PARTS = {"model", "predict", "training", "evaluation", "workflows"}
GUI_LIBRARIES = {"napari", "magicgui", "superqt", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "vispy", "npe2"}
# Of scipy only ndimage's connected regions, for which numpy has nothing.
ARRAY_LIBRARIES = {"numpy", "scipy"}
NAME_OF_DISTRIBUTION = {"pillow": "PIL", "scikit-image": "skimage", "ome-zarr-models": "ome_zarr_models"}


def files_of(part: str) -> list[Path]:
    folder, module = SRC / part, SRC / f"{part}.py"
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [module] if module.is_file() else []


def imported_names(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of each import, wherever it stands; relative ones are made absolute."""
    package = [*path.relative_to(SRC.parent).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def imported_parts(path: Path) -> Iterator[tuple[str, str | None]]:
    """(part of napari_sam, name taken from it) of each import of our own."""
    for module, name in imported_names(path):
        words = module.split(".")
        if words[0] != "napari_sam":
            continue
        if len(words) > 1:
            yield words[1], name
        elif name is not None and files_of(name):  # from napari_sam import geometry
            yield name, None
        elif name is None:  # import napari_sam: the lazy public interface, for the rim only
            yield "__init__", None


def third_party(path: Path) -> set[str]:
    roots = {module.split(".")[0] for module, _ in imported_names(path)}
    return roots - set(sys.stdlib_module_names) - {"napari_sam", "__future__"}


def is_config_or_data(name: str | None) -> bool:
    """Whether the rim may take `name` from an inner part: a config dataclass, or a table such as REGISTRY."""
    return name is not None and (name.endswith("Config") or re.fullmatch(r"[A-Z][A-Z0-9_]+", name) is not None)


def may_import(part: str, target: str, name: str | None) -> bool:
    if target in MAY_IMPORT[part] | {part}:
        return True
    return part in RIM and (target == "__init__" or is_config_or_data(name))


def test_every_part_of_the_source_stands_in_the_table():
    parts = {path.stem if path.is_file() else path.name for path in SRC.iterdir() if path.suffix in {"", ".py"}}
    assert parts - {"__pycache__"} <= set(MAY_IMPORT)


@pytest.mark.parametrize("part", sorted(set(MAY_IMPORT) - {"__init__"}))
def test_imports_point_inwards(part):
    for path in files_of(part):
        for target, name in imported_parts(path):
            told = f"{path.relative_to(SRC)}: {part} may not import {name or 'all'} from {target}"
            assert may_import(part, target, name), told


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_torch_is_imported_only_by_parts_that_run_the_network(part):
    users = [path.name for path in files_of(part) if "torch" in third_party(path)]
    assert part in TORCH_PARTS or not users


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_napari_and_qt_are_imported_under_ui_only(part):
    for path in files_of(part):
        assert part == "ui" or not third_party(path) & GUI_LIBRARIES, f"{path.relative_to(SRC)} imports a GUI library"


def test_geometry_needs_array_libraries_and_nothing_else():
    for path in files_of("geometry"):
        assert third_party(path) <= ARRAY_LIBRARIES, path.name


def test_the_network_needs_torch_and_no_torchvision():
    for path in SRC.rglob("*.py"):
        assert "torchvision" not in third_party(path), path.name


def test_every_library_the_source_imports_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    optional = [line for name, lines in extras.items() if name not in {"test", "dev"} for line in lines]
    requirements = [*project["dependencies"], *optional]
    names = {re.match(r"[A-Za-z0-9_.-]+", line).group().lower() for line in requirements}
    declared = {NAME_OF_DISTRIBUTION.get(name, name.replace("-", "_")) for name in names}
    used = {library for path in SRC.rglob("*.py") for library in third_party(path)}
    assert used <= declared


def test_the_checker_sees_imports_inside_functions_and_relative_ones(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SRC", tmp_path / "napari_sam")
    path = tmp_path / "napari_sam" / "tiling" / "plan.py"
    path.parent.mkdir(parents=True)
    path.write_text("from ..model import Sam\ndef f():\n    import torch\n    from . import run\n")
    assert [target for target, _ in imported_parts(path)] == ["model", "tiling"]
    assert third_party(path) == {"torch"}
