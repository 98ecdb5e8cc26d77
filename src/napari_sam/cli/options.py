"""Command-line options made from config dataclasses: one flag a field, its text as the help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypedDict, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from napari_sam.workflows.field_help import field_help

Flags: TypeAlias = Mapping[str, Any] | None
"""The flags of one config that the user gave, as the type checker sees what `settings_of` makes."""

OutputFlag = Annotated[Path, Parameter(name=["--output", "-o"])]
ModelFlag = Annotated[str, Parameter(help="A name from `napari-sam models list`, or a checkpoint file.")]
DeviceFlag = Annotated[str, Parameter(help="auto, cpu, cuda or mps.")]
PresetFlag = Annotated[str | None, Parameter(help="Settings for a kind of image: cells, nuclei, aerial or everything.")]
RestartFlag = Annotated[
    bool,
    Parameter(help="Forget what an earlier run with this output finished, and replace its results.", negative=""),
]
TableFlag = Annotated[Path | None, Parameter(help="Write one row an object: NAME.csv or NAME.parquet.")]
Sa1bFlag = Annotated[Path | None, Parameter(help="Write all masks in SA-1B's format: NAME.json.")]
GeojsonFlag = Annotated[Path | None, Parameter(help="Write outlines for QuPath and GIS programs.")]
OverlayFlag = Annotated[Path | None, Parameter(help="Write a picture with the outlines over the image: NAME.png.")]
JsonFlag = Annotated[Path | None, Parameter(help="Write all figures: NAME.json.")]


def settings_of(config: type, *, group: str, without: Sequence[str] = ()) -> Any:
    """A TypedDict type with one optional key a field of `config`: a key is there only if the user gave its flag."""
    texts, types = field_help(config), get_type_hints(config)
    keys = {
        field.name: Annotated[types[field.name], _flag(texts[field.name], types[field.name], field.default, group)]
        for field in fields(config)
        if field.name not in without
    }
    return Annotated[TypedDict(f"{config.__name__}Flags", keys, total=False) | None, Parameter(name="*")]  # type: ignore[operator]


def given(flags: Flags) -> dict[str, Any]:
    """What the user gave, as keyword arguments."""
    return dict(flags or {})


def _flag(text: str, kind: Any, default: object, group: str) -> Parameter:
    if tuple in (get_origin(kind), *map(get_origin, get_args(kind))):
        # Without a flag for "none of them", which the default says already.
        return Parameter(help=f"{_help(text, default)} Give the flag once for each.", group=group, negative="")
    return Parameter(help=_help(text, default), group=group)


def _help(text: str, default: object) -> str:
    if default is MISSING or default is None or default == ():
        return text
    return f"{text} [default: {default:.4g}]" if isinstance(default, float) else f"{text} [default: {default}]"
