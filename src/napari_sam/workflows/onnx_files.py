"""A model as ONNX files, for programs that have no torch."""

from __future__ import annotations

import os
from pathlib import Path

from napari_sam.errors import OutputError
from napari_sam.model import SamModel, load_model
from napari_sam.model.onnx_export import export_decoder, export_encoder
from napari_sam.tiling.writing import atomic_path


def export_onnx(
    model: str | os.PathLike[str] | SamModel,
    decoder: str | os.PathLike[str] | None = None,
    encoder: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write a model's prompt decoder, its image encoder, or both as ONNX.

    Parameters
    ----------
    model : str, path or SamModel
        See :func:`napari_sam.load_model`.
    decoder, encoder : path, optional
        NAME.onnx; at least one. Existing files are replaced when the new ones are complete. Inputs and outputs are
        those of :func:`napari_sam.model.onnx_export.export_decoder` and `export_encoder`.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OutputError
        If no name is given, one does not end in .onnx, or the disk refuses.
    CheckpointError
        If the model cannot be loaded, the onnx package is not installed, or the network is too large for one file.
    """
    jobs = [(Path(path), write) for path, write in ((decoder, export_decoder), (encoder, export_encoder)) if path]
    if not jobs:
        raise OutputError("nothing to write; name a file for the decoder, the encoder or both.")
    for path, _ in jobs:
        if path.suffix.lower() != ".onnx":
            raise OutputError(f"an ONNX file ends in .onnx, got {path}; change the end of the name.")
    if len({path.resolve() for path, _ in jobs}) < len(jobs):
        raise OutputError("decoder and encoder go to different files; give each its own name.")
    loaded = model if isinstance(model, SamModel) else load_model(model, device="cpu")
    for path, write in jobs:
        with atomic_path(path) as partial:
            write(loaded.sam, partial)
    return [path for path, _ in jobs]
