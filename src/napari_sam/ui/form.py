"""Form fields made from a config dataclass: its defaults, types, units and the texts below its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QLineEdit, QSizePolicy, QSpinBox, QWidget

from napari_sam.workflows.field_help import field_help

UNITS = {"px": " px", "um": " µm"}
"""Ends of field names that are units, and how a value is shown with it."""
_LARGEST = 10**9
_DECIMALS = 3
_STEP = 0.01
_UNSET = "not set"


class ConfigForm(QWidget):
    """One row for each of some fields of a config dataclass.

    Parameters
    ----------
    config : type
        The dataclass. Fields may be numbers, texts to choose from (Literal), truth values, or a number, a text or None.
    names : sequence of str
        Fields to show, in this order.
    """

    changed = Signal()

    def __init__(self, config: type, names: Sequence[str]) -> None:
        super().__init__()
        types, texts = get_type_hints(config), field_help(config)
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.fields: dict[str, QWidget] = {}
        self._given: dict[str, tuple[Any, Any]] = {}
        for name in names:
            field = _field_of(types[name], name)
            field.setToolTip(f"<b>{name}</b><br>{texts.get(name, '')}")
            field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            field.installEventFilter(self)
            _changed_signal(field).connect(self.changed)
            self.fields[name] = field
            layout.addRow(label_of(name), field)
            layout.labelForField(field).setToolTip(field.toolTip())

    def values(self) -> dict[str, Any]:
        """The value of each field; one that was not touched is just what was set, whatever the form can show of it."""
        return {name: self._value(name) for name in self.fields}

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show those of `values` that have a field here."""
        for name, field in self.fields.items():
            if name in values:
                _show(field, values[name])
                self._given[name] = (_shown(field), values[name])

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the wheel scroll the form instead of changing values, unless the field was clicked."""
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return bool(super().eventFilter(watched, event))

    def _value(self, name: str) -> Any:
        shown = _shown(self.fields[name])
        before, given = self._given.get(name, (object(), None))
        return given if shown == before else shown


def label_of(name: str) -> str:
    """A field's name as a person reads it: without underscores and unit."""
    words = name.split("_")
    return " ".join(words[:-1] if words[-1] in UNITS else words)


def _field_of(kind: Any, name: str) -> QWidget:
    options = [option for option in get_args(kind) if option is not NoneType]
    if get_origin(kind) is Literal:
        combo = QComboBox()
        combo.addItems([str(option) for option in options])
        return combo
    if NoneType in get_args(kind):
        (inner,) = options
        if inner is str:
            line = QLineEdit()
            line.setPlaceholderText(_UNSET)
            return line
        return _number_field(inner, name, optional=True)
    return QCheckBox() if kind is bool else _number_field(kind, name, optional=False)


def _number_field(kind: type, name: str, *, optional: bool) -> QWidget:
    spin = QSpinBox() if kind is int else QDoubleSpinBox()
    step = 1 if kind is int else _STEP
    if isinstance(spin, QDoubleSpinBox):
        spin.setDecimals(_DECIMALS)
        spin.setSingleStep(step)
    spin.setRange(-step if optional else 0, _LARGEST)
    spin.setSuffix(UNITS.get(name.split("_")[-1], ""))
    spin.setProperty("optional", optional)
    spin.setMinimumWidth(90)
    if optional:
        # What Qt shows in the place of the smallest value.
        spin.setSpecialValueText(_UNSET)
    return spin


def _changed_signal(field: QWidget) -> Any:
    if isinstance(field, QComboBox):
        return field.currentTextChanged
    if isinstance(field, QLineEdit):
        return field.textChanged
    return field.toggled if isinstance(field, QCheckBox) else field.valueChanged


def _shown(field: QWidget) -> Any:
    if isinstance(field, QComboBox):
        return field.currentText()
    if isinstance(field, QCheckBox):
        return field.isChecked()
    if isinstance(field, QLineEdit):
        return field.text().strip() or None
    return None if field.property("optional") and field.value() < 0 else field.value()


def _show(field: QWidget, value: Any) -> None:
    if isinstance(field, QComboBox):
        field.setCurrentText(value)
    elif isinstance(field, QCheckBox):
        field.setChecked(value)
    elif isinstance(field, QLineEdit):
        field.setText(value or "")
    else:
        field.setValue(field.minimum() if value is None else value)
