"""The parts generated images are made of, and one file for each family of them."""

from napari_sam.training.generators.aerial import fields, leaves, trees_and_roofs
from napari_sam.training.generators.bacteria import bacteria
from napari_sam.training.generators.brightfield import brightfield
from napari_sam.training.generators.collage import collage
from napari_sam.training.generators.grains import particles, polished_grains
from napari_sam.training.generators.membranes import membranes
from napari_sam.training.generators.nuclei import fluorescent_nuclei
from napari_sam.training.generators.phase import phase_contrast_cells
from napari_sam.training.generators.scene import GeneratedImage
from napari_sam.training.generators.tissue import stained_tissue

__all__ = [
    "GeneratedImage",
    "bacteria",
    "brightfield",
    "collage",
    "fields",
    "fluorescent_nuclei",
    "leaves",
    "membranes",
    "particles",
    "phase_contrast_cells",
    "polished_grains",
    "stained_tissue",
    "trees_and_roofs",
]
