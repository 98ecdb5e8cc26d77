"""Cut objects: ask for the whole of each, keep every answer on the disk, and find out what is left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import LedgerError, OutputError
from napari_sam.geometry import Box, Mask, Tile, intersection_area, mask_iou, mask_ious
from napari_sam.tiling.candidates import Candidates, Rows, greatest_iou
from napari_sam.tiling.config import TilingConfig
from napari_sam.tiling.fragments import is_same_object, largest_first, may_be_same, reaches_core
from napari_sam.tiling.places import GrowingPlaces
from napari_sam.tiling.reprompt import Answer
from napari_sam.tiling.store import MaskCache, StoredMasks, read_arrays, write_arrays

FragmentKey = tuple[int, int]
"""(tile, number of the mask in it)."""


class AnswerStore:
    """What was answered for each fragment, one file each, so that no question is asked twice over many runs."""

    def __init__(self, folder: Path, image_size: tuple[int, int], settings: dict[str, Any]) -> None:
        self._folder = folder
        self._image_size = image_size
        self._settings = json.dumps(settings, sort_keys=True)
        self._masks: MaskCache[FragmentKey] = MaskCache(lambda key: StoredMasks.read(self._path(key)))

    def __reduce__(self) -> tuple[Any, ...]:
        return AnswerStore, (self._folder.resolve(), self._image_size, json.loads(self._settings))

    def mask(self, key: FragmentKey) -> Mask:
        """The whole object that was the answer, in the frame of the whole image."""
        return self._masks.get(key).mask(0)

    def has_mask(self, key: FragmentKey) -> bool:
        """Whether the file of this answer is there and whole."""
        try:
            return len(self._masks.get(key)) == 1
        except LedgerError:
            return False

    def answer(self, key: FragmentKey, fragment: Mask, ask: Callable[[], Answer]) -> Answer:
        """What was answered before for this very fragment with these settings, or else the answer of `ask`, which is
        written down."""
        question = self._question(fragment)
        try:
            known = read_arrays(self._path(key), ["question", "reason"])
            if str(known["question"]) == question:
                reason = str(known["reason"])
                return Answer(self.mask(key) if reason == "whole" else None, reason)
        except LedgerError:
            pass  # never asked, or the file is damaged: then it is asked again
        answer = ask()
        stored = StoredMasks.of([] if answer.mask is None else [answer.mask], self._image_size)
        write_arrays(
            self._path(key), {**asdict(stored), "question": np.array(question), "reason": np.array(answer.reason)}
        )
        return answer

    def _path(self, key: FragmentKey) -> Path:
        return self._folder / f"reprompt-{key[0]:07d}-{key[1]:05d}.npz"

    def _question(self, fragment: Mask) -> str:
        content = self._settings.encode() + fragment.box.as_xyxy().tobytes() + np.asarray(fragment.rle.counts).tobytes()
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Resolution:
    """What became of the fragments whose object no tile saw whole; rows of the candidates."""

    whole: Mapping[int, Box]
    """Fragments whose answer is an object of its own, and the box of that."""
    fragments: Rows
    """Fragments that stay as they are, because no whole object could be had."""
    asked: int
    """Fragments for which an answer was needed."""
    failed: dict[str, str]
    """Errors, by fragment."""


class Resolver:
    """Goes through the fragments, the largest first; what one brings out whole spares the others the question."""

    def __init__(
        self,
        candidates: Candidates,
        kept: Rows,
        answers: AnswerStore,
        ask: Callable[[Mask, Tile], Answer],
        config: TilingConfig,
    ) -> None:
        self._candidates = candidates
        self._is_kept = np.zeros(len(candidates), dtype=np.bool_)
        self._is_kept[kept] = True
        self._answers = answers
        self._ask = ask
        self._config = config
        self._whole: dict[int, Box] = {}
        self._places = GrowingPlaces()
        self._left: list[int] = []
        self._asked = 0
        self._failed: dict[str, str] = {}

    def resolve(self, row: int) -> None:
        """Find the whole object of one fragment; an error is noted and the fragment stays."""
        fragment = self._candidates.mask(row)
        if self._is_known(row, fragment):
            return
        self._asked += 1
        key = self._candidates.key(row)
        try:
            answer = self._answers.answer(key, fragment, lambda: self._ask(fragment, self._tile(row)))
        except OutputError:  # no record can be written: nothing of what follows would be kept
            raise
        except Exception as error:  # one window that cannot be read or segmented must not cost the others
            self._failed[f"tile {key[0]}, mask {key[1]}"] = f"{type(error).__name__}: {error}"
            self._left.append(row)
            return
        if answer.mask is None:
            self._left.append(row)
        elif not self._is_duplicate(answer.mask):
            self._whole[row] = answer.mask.box
            self._places.add(row, answer.mask.box)

    def resolution(self) -> Resolution:
        """The state after the last fragment."""
        left = GrowingPlaces()
        rows: list[int] = []
        for row in largest_first(self._candidates, np.array(self._left, dtype=np.intp)).tolist():
            fragment = self._candidates.mask(row)
            # A later answer may have brought this object out whole, and a larger fragment may show all that this one
            # does.
            if not self._is_known(row, fragment) and not self._shows_no_more(row, fragment, left):
                left.add(row, fragment.box)
                rows.append(row)
        return Resolution(self._whole, np.array(rows, dtype=np.intp), self._asked, self._failed)

    def _is_known(self, row: int, fragment: Mask) -> bool:
        """Whether an object that came out whole is the one this fragment belongs to."""
        tile = self._tile(row)
        near = self._places.meeting(fragment.box)
        boxes = np.array([self._whole[other].as_xyxy() for other in near], dtype=np.int64).reshape(-1, 4)
        may_be = may_be_same(self._candidates.boxes[row], fragment.area, boxes, self._config)
        found = (self.answer(near[i]) for i in np.flatnonzero(may_be).tolist())
        return any(is_same_object(fragment, whole, tile, self._config) for whole in found)

    def _is_duplicate(self, mask: Mask) -> bool:
        """Whether an object that is kept already is this one: the one from a tile was seen at full resolution."""
        thresh = self._config.merge_iou_thresh
        rows = self._candidates.uncut_near(mask.box)
        rows = rows[self._is_kept[rows]]
        boxes, areas = self._candidates.boxes[rows], self._candidates.areas[rows]
        rows = rows[greatest_iou(boxes, areas, mask.box.as_xyxy(), np.array(mask.area)) > thresh]
        others = [self._candidates.mask(row) for row in rows.tolist()]
        others += [self.answer(row) for row in self._places.meeting(mask.box)]
        pairs = np.stack([np.zeros(len(others), dtype=np.intp), np.arange(1, len(others) + 1)], axis=1)
        return bool((mask_ious([mask, *others], pairs) > thresh).any())

    def _shows_no_more(self, row: int, fragment: Mask, larger: GrowingPlaces) -> bool:
        """Whether a larger fragment of another tile is this one, or covers most of it where its own tile does not
        answer."""
        candidates = self._candidates
        tile = self._tile(row)
        rows = np.array(larger.meeting(fragment.box), dtype=np.intp)
        rows = rows[candidates.tile[rows] != tile.index]
        rows = rows[may_be_same(candidates.boxes[row], fragment.area, candidates.boxes[rows], self._config)]
        others = [candidates.mask(int(other)) for other in rows]
        if any(mask_iou(fragment, other) > self._config.merge_iou_thresh for other in others):
            return True
        most = self._config.fragment_cover_thresh * fragment.area
        return not reaches_core(fragment, tile) and any(intersection_area(fragment, other) > most for other in others)

    def answer(self, row: int) -> Mask:
        """The whole object that came out for a fragment."""
        return self._answers.mask(self._candidates.key(row))

    def _tile(self, row: int) -> Tile:
        return self._candidates.plan.tiles[int(self._candidates.tile[row])]
