"""A combo box of the models that can be used now."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QComboBox

from napari_sam.errors import NapariSamError
from napari_sam.workflows.models import usable_models


class ModelChoice(QComboBox):
    """Names of the registry whose files are here, and models of the user's own.

    It looks again whenever its list is opened: what was downloaded, retrained or forgotten meanwhile, in this window or
    elsewhere, is there or gone.
    """

    def __init__(self, tooltip: str) -> None:
        super().__init__()
        self.setToolTip(tooltip)
        # A combo box is as wide as its longest text otherwise, and so would the form be.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(10)

    @property
    def name(self) -> str:
        """The chosen one, as `load_model` takes it: a name or a path."""
        return str(self.currentData())

    def showPopup(self) -> None:
        """Open the list, as it is by now."""
        self.fill()
        super().showPopup()

    def fill(self) -> str:
        """Offer what is on this machine, and what is chosen; returns why that is not all of it, empty if it is."""
        try:
            names, problem = usable_models(), ""
        except NapariSamError as error:
            names, problem = ("nano",), str(error)
        for row in reversed(range(self.count())):
            if row != self.currentIndex() and self.itemData(row) not in names:
                self.removeItem(row)
        for name in names:
            self.offer(name)
        return problem

    def offer(self, name: str) -> None:
        """Add a model, unless it is offered already."""
        if self.findData(name) < 0:
            self.addItem(Path(name).name, name)
