"""`napari-sam measure`: the paper's further experiments against known boundaries and objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from napari_sam.cli.options import DeviceFlag, JsonFlag, ModelFlag, given, settings_of
from napari_sam.cli.progress import Bars
from napari_sam.predict import EdgeConfig, ObjectProposalConfig
from napari_sam.workflows.experiments.config import CocoEvaluationConfig, EdgeEvaluationConfig

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as BoxFlags
    from napari_sam.cli.options import Flags as CocoFlags
    from napari_sam.cli.options import Flags as EdgeEvaluationFlags
    from napari_sam.cli.options import Flags as EdgeFlags
    from napari_sam.cli.options import Flags as ProposalFlags
else:
    EdgeEvaluationFlags = settings_of(EdgeEvaluationConfig, group="What is measured")
    EdgeFlags = settings_of(EdgeConfig, group="Edges")
    CocoFlags = settings_of(CocoEvaluationConfig, group="What is measured")
    BoxFlags = settings_of(CocoEvaluationConfig, group="What is measured", without=["whole"])
    ProposalFlags = settings_of(ObjectProposalConfig, group="Proposals")

app = App(name="measure", help="Measure edges, proposals and instances from boxes.", help_format="plaintext")


@app.command
def edges(
    folder: Path,
    *,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    json: JsonFlag = None,
    settings: EdgeEvaluationFlags = None,
    edge_settings: EdgeFlags = None,
) -> None:
    """ODS, OIS, AP and R50 of a model's edges, by the BSDS protocol.

    Parameters
    ----------
    folder
        BSDS500 as it is distributed (NAME.jpg and NAME.mat anywhere below), or pairs of images and labels.
    """
    from napari_sam.workflows.experiments.edge_evaluation import evaluate_edges

    with Bars() as bars:
        report = evaluate_edges(
            folder,
            model,
            device=device,
            config=EdgeEvaluationConfig(**given(settings)),
            edges=EdgeConfig(**given(edge_settings)),
            progress=bars.update,
        )
    _tell(report.as_text(), json and report.write_json(json))


@app.command
def proposals(
    folder: Path,
    *,
    annotations: Path | None = None,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    json: JsonFlag = None,
    settings: CocoFlags = None,
    proposal_settings: ProposalFlags = None,
) -> None:
    """How many objects the best 10, 100 and 1000 proposals find: COCO's average recall, by size as well.

    Parameters
    ----------
    folder
        Pairs of images and labels as for `napari-sam evaluate`; or the images of --annotations.
    annotations
        COCO instances of the images in the folder.
    """
    from napari_sam.workflows.experiments.coco_evaluation import evaluate_proposals

    with Bars() as bars:
        report = evaluate_proposals(
            folder,
            model,
            annotations=annotations,
            device=device,
            config=CocoEvaluationConfig(**given(settings)),
            proposals=ObjectProposalConfig(**given(proposal_settings)),
            progress=bars.update,
        )
    _tell(report.as_text(), json and report.write_json(json))


@app.command
def boxes(
    folder: Path,
    *,
    annotations: Path | None = None,
    detections: Path | None = None,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    json: JsonFlag = None,
    settings: BoxFlags = None,
) -> None:
    """COCO's mask AP of instances from boxes: a detector's, or the true ones.

    Parameters
    ----------
    folder
        Pairs of images and labels as for `napari-sam evaluate`; or the images of --annotations.
    annotations
        COCO instances of the images in the folder.
    detections
        COCO results of a detector (image_id, category_id, bbox, score); without it the true boxes are taken.
    """
    from napari_sam.workflows.experiments.coco_evaluation import evaluate_boxes

    with Bars() as bars:
        report = evaluate_boxes(
            folder,
            model,
            annotations=annotations,
            detections=detections,
            device=device,
            config=CocoEvaluationConfig(**given(settings)),
            progress=bars.update,
        )
    _tell(report.as_text(), json and report.write_json(json))


def _tell(text: str, written: Path | None) -> None:
    print(text)
    if written is not None:
        print(f"all figures in {written}")
