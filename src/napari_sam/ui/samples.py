"""Sample data for napari's File > Open Sample menu: nothing is downloaded."""

from __future__ import annotations

from napari_sam.ui.layers import LayerTuple
from napari_sam.workflows.samples.huge import PIXEL_SIZE_UM, huge_nuclei
from napari_sam.workflows.samples.images import Sample, coins, film, mosaic, nuclei, real_sample


def coins_sample() -> list[LayerTuple]:
    """A photograph of coins, without labels."""
    return _layers("coins", coins())


def cell_sample() -> list[LayerTuple]:
    """A single cell in brightfield, without labels."""
    return _layers("cell", real_sample("cell"))


def tissue_sample() -> list[LayerTuple]:
    """Stained tissue in colours, without labels."""
    return _layers("tissue", real_sample("immunohistochemistry"))


def retina_sample() -> list[LayerTuple]:
    """The back of an eye in colours, without labels."""
    return _layers("retina", real_sample("retina"))


def galaxies_sample() -> list[LayerTuple]:
    """The Hubble deep field, without labels."""
    return _layers("galaxies", real_sample("hubble_deep_field"))


def nuclei_sample() -> list[LayerTuple]:
    """A generated field of nuclei and its labels."""
    return _layers("nuclei", nuclei())


def film_sample() -> list[LayerTuple]:
    """A generated phase-contrast film and its labels: a stack of twelve frames."""
    return [
        (data, {**options, "axis_labels": ("t", "y", "x")}, kind) for data, options, kind in _layers("film", film())
    ]


def mosaic_sample() -> list[LayerTuple]:
    """The large composed image of `make demo` and the labels of its generated part."""
    return _layers("mosaic", mosaic())


def huge_sample() -> list[LayerTuple]:
    """A pyramid of 50 000 x 50 000 pixels and its labels, computed where they are looked at."""
    sample = huge_nuclei()
    placed = {"scale": (PIXEL_SIZE_UM,) * 2, "units": ("um", "um"), "multiscale": True}
    return [
        (list(sample.image), {"name": "huge", "contrast_limits": (0, 255), **placed}, "image"),
        (list(sample.labels), {"name": "huge known labels", "visible": False, **placed}, "labels"),
    ]


def _layers(name: str, sample: Sample) -> list[LayerTuple]:
    image: LayerTuple = (sample.image, {"name": name, "rgb": sample.image.shape[-1] == 3}, "image")
    if sample.labels is None:
        return [image]
    return [image, (sample.labels, {"name": f"{name} known labels", "visible": False}, "labels")]
