"""A function over many things by several threads: results in order, not many ahead, nothing begun after an error."""

from __future__ import annotations

import threading
import time

import pytest

from napari_sam.tiling.spread import in_threads


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_results_come_in_the_order_of_the_items(workers):
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    assert list(in_threads(workers)(slow_first, range(20))) == [item * item for item in range(20)]


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_than_a_few_items_are_begun_ahead_of_what_is_asked_for(workers):
    begun: list[int] = []
    results = in_threads(workers)(begun.append, range(100))
    next(results)
    time.sleep(0.05)
    assert 1 <= len(begun) <= workers + 1
    results.close()
    assert len(begun) <= workers + 1


def test_several_are_worked_on_at_once():
    together = threading.Barrier(3, timeout=10)
    assert sorted(in_threads(3)(lambda _: together.wait(), range(3))) == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_at_its_place_and_what_was_not_begun_never_is(workers):
    begun: list[int] = []

    def fail_at_three(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    came: list[int] = []
    with pytest.raises(ValueError, match="three"):
        came.extend(in_threads(workers)(fail_at_three, range(1000)))
    assert len(begun) < 10


def test_nothing_gives_nothing():
    assert list(in_threads(4)(str, [])) == []
