"""Files that appear whole, also where two processes write the same one at once."""

from __future__ import annotations

import pytest

from napari_sam.errors import OutputError
from napari_sam.tiling.writing import atomic_path


def test_two_writers_of_one_shared_file_do_not_meet(tmp_path):
    path = tmp_path / "tile.npz"
    with atomic_path(path, shared=True) as first:
        first.write_bytes(b"the sa")
        with atomic_path(path, shared=True) as second:
            assert second != first
            second.write_bytes(b"the same")
        assert path.read_bytes() == b"the same"
        first.write_bytes(b"the same")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("tile.npz", b"the same")]


@pytest.mark.parametrize("shared", [False, True])
def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path, shared):
    (tmp_path / "a").write_bytes(b"old")

    def fail() -> None:
        with atomic_path(tmp_path / "a", shared=shared) as partial:
            partial.write_bytes(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"old")]


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "a").write_bytes(b"a file")
    with (
        pytest.raises(OutputError, match=r"cannot write .*b: .* A part of this path is a file"),
        atomic_path(tmp_path / "a" / "b"),
    ):
        pass
