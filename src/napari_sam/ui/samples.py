"""Sample data for napari's File > Open Sample menu."""

from __future__ import annotations

from napari_sam.ui.layers import LayerTuple
from napari_sam.workflows.samples import Sample, coins, mosaic, nuclei


def coins_sample() -> list[LayerTuple]:
    """A photograph of coins, without labels."""
    return _layers("coins", coins())


def nuclei_sample() -> list[LayerTuple]:
    """A generated field of nuclei and its labels."""
    return _layers("nuclei", nuclei())


def mosaic_sample() -> list[LayerTuple]:
    """The large composed image of `make demo` and the labels of its generated part."""
    return _layers("mosaic", mosaic())


def _layers(name: str, sample: Sample) -> list[LayerTuple]:
    image: LayerTuple = (sample.image, {"name": name, "rgb": sample.image.ndim == 3}, "image")
    if sample.labels is None:
        return [image]
    return [image, (sample.labels, {"name": f"{name} known labels", "visible": False}, "labels")]
