"""The log and its picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from napari_sam.training.plot import write_plot
from napari_sam.training.record import CsvLog


def test_rows_come_back_and_figures_without_a_column_are_left_out(tmp_path):
    log = CsvLog(tmp_path / "log.csv", ["a", "b"])
    log.write(1, 0.5, {"a": 0.25, "other": 1.0})
    assert log.rows() == [{"step": "1", "minutes": "0.5", "a": "0.25", "b": ""}]


def test_rows_beyond_a_step_are_dropped(tmp_path):
    log = CsvLog(tmp_path / "log.csv", ["a"])
    for step in (1, 2, 3):
        log.write(step, 0.0, {"a": step})
    log.drop_after(2)
    log.write(3, 0.0, {"a": 9})
    assert [row["a"] for row in log.rows()] == ["1", "2", "9"]


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path):
    log = CsvLog(tmp_path / "log.csv", ["a", "b"])
    log.write(1, 0.0, {"a": 1.0})
    with log.path.open("a") as file:
        file.write("2,0")
    assert [row["step"] for row in log.rows()] == ["1"]


def test_without_a_file_there_are_no_rows(tmp_path):
    log = CsvLog(tmp_path / "log.csv", ["a"])
    log.drop_after(3)
    assert log.rows() == []


def test_the_picture_has_a_curve_for_each_column_that_has_values(tmp_path):
    losses = [{"step": str(i), "mask1": str(2 / (i + 1)), "heat": "", "iou1": "0.5"} for i in range(900)]
    write_plot(tmp_path / "log.svg", losses, [{"step": "5", "score": "0.25"}])
    root = ET.parse(tmp_path / "log.svg").getroot()
    lines = root.findall("{*}polyline")
    assert len(lines) == 3
    assert len(lines[0].get("points").split()) == 50
    texts = [text.text for text in root.findall("{*}text")]
    assert "score 0.250" in texts
    assert not [text for text in texts if text.startswith("heat")]
    width, height = float(root.get("width")), float(root.get("height"))
    for line in lines:
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_the_picture_of_an_empty_log_is_empty(tmp_path):
    write_plot(tmp_path / "log.svg", [], [])
    assert not list(ET.parse(tmp_path / "log.svg").getroot())
