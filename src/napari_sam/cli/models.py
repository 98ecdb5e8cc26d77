"""`napari-sam models`: which checkpoints there are, fetching them, checking them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from napari_sam.cli import EXIT_FAILED
from napari_sam.cli.options import ModelFlag

app = App(name="models", help="List, download, verify and export model checkpoints.", help_format="plaintext")


@app.command(name="list")
def list_() -> None:
    """All models: size, where each is, licence, what it is good at."""
    from napari_sam.workflows.models import format_models, list_models

    print(format_models(list_models()))


@app.command
def download(name: str) -> None:
    """Fetch a checkpoint and verify it.

    Parameters
    ----------
    name
        As in `napari-sam models list`.
    """
    from napari_sam.workflows.models import download_checkpoint

    print(download_checkpoint(name))


@app.command
def verify(*names: str) -> int:
    """Compare checkpoint files on this machine with what was published.

    Parameters
    ----------
    names
        Which ones; by default all that are here.
    """
    from napari_sam.workflows.models import verify_models

    rows = verify_models(names)
    for row in rows:
        print(f"{'ok' if row.ok else 'WRONG':6} {row.name}: {row.message}")
    return 0 if all(row.ok for row in rows) else EXIT_FAILED


@app.command
def export(
    model: ModelFlag,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    encoder: Path | None = None,
) -> None:
    """Write a model as ONNX, for programs without torch.

    Parameters
    ----------
    output
        The prompt decoder: image embedding and prompts to masks. NAME.onnx.
    encoder
        The image encoder: image to image embedding. NAME.onnx.
    """
    from napari_sam.workflows.onnx_files import export_onnx

    for path in export_onnx(model, output, encoder):
        print(path)
