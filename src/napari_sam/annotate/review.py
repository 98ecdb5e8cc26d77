"""Review of objects that the model found: which come first, and what a random sample says of all of them.

The third stage of the paper's data engine is fully automatic; it was trusted because people looked at a random part of
its masks (section 4 and "mask quality" in section 5). Here the same is done for one image: a queue that begins with
what is likeliest to be wrong, an audit of objects drawn at random for precision, an audit of places for recall.
Pure functions: a session keeps the verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from napari_sam.annotate.objects import AnnotatedObject, ObjectPart, Origin, Verdict
from napari_sam.annotate.prompts import Plane
from napari_sam.errors import AnnotationError
from napari_sam.geometry import Box

Z_95 = 1.959963984540054
"""The normal distribution has 95 % of its mass within so many standard deviations."""
MODEL_MADE: tuple[Origin, ...] = ("prefilled",)
"""Origins of objects that no person has seen; what was clicked or painted was seen by who did it."""
EVERY_ORIGIN: tuple[Origin, ...] = get_args(Origin)


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One object to be looked at, where it is most doubtful."""

    label: int
    plane: Plane
    extent: Box
    uncertainty: float
    """1 - predicted IoU x stability score, in [0, 1]: 0 is an object that nobody doubts."""
    predicted_iou: float
    stability_score: float
    is_cut: bool
    """It touches the seam of tiles, or was nearly lost from plane to plane, in some plane."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """A proportion estimated from a sample, with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """Of the sample, those that count as right."""
    total: int
    """Of the sample, all."""

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%}; {self.count} of {self.total})"


@dataclass(frozen=True, slots=True)
class Place:
    """A window of one plane in which missed objects are counted."""

    plane: Plane
    box: Box


@dataclass(frozen=True, slots=True)
class PlaceCount:
    """What a person counted in one place."""

    place: Place
    found: int
    """Objects there that have a mask."""
    missed: int
    """Objects there that have none."""

    def __post_init__(self) -> None:
        if self.found < 0 or self.missed < 0:
            raise AnnotationError(f"counts of objects must be at least 0, got {self.found} and {self.missed}.")


def uncertainty(part: ObjectPart) -> float:
    """How doubtful an object is in one plane: 1 - predicted IoU x stability score, both clipped to [0, 1]."""
    iou, stability = (min(max(score, 0.0), 1.0) for score in (part.predicted_iou, part.stability_score))
    return 1.0 - iou * stability


def review_item(known: AnnotatedObject) -> ReviewItem:
    """An object as it stands in the queue, in its most doubtful plane."""
    worst = max(known.parts, key=lambda part: (part.unsure, uncertainty(part)))
    return ReviewItem(
        known.label,
        worst.plane,
        worst.extent,
        uncertainty(worst),
        worst.predicted_iou,
        worst.stability_score,
        worst.unsure,
    )


def review_queue(
    objects: Mapping[int, AnnotatedObject],
    *,
    origins: Collection[Origin] = MODEL_MADE,
    include_reviewed: bool = False,
) -> tuple[ReviewItem, ...]:
    """What is to be looked at, the most doubtful first.

    Objects that the seam of tiles cuts (or that were nearly lost from plane to plane) come before all others: nothing
    else says so surely that a mask is not whole. Then the uncertainty decides, then the label, so that the order is the
    same every time.

    Parameters
    ----------
    objects : mapping of label to AnnotatedObject
    origins : collection of "prefilled", "clicked", "painted"
        By default only what the model found by itself.
    include_reviewed : bool
        Also those that have a verdict.
    """
    items = [
        review_item(known)
        for known in objects.values()
        if known.origin in origins and known.parts and (include_reviewed or known.verdict is None)
    ]
    return tuple(sorted(items, key=lambda item: (not item.is_cut, -item.uncertainty, item.label)))


def audit_sample(labels: Iterable[int], count: int, seed: int) -> tuple[int, ...]:
    """`count` of the labels, drawn at random without replacement, in the order to look at them.

    All of them, in random order, if there are not more. The same labels and seed give the same sample.

    Raises
    ------
    AnnotationError
        If `count` is below 1.
    """
    if count < 1:
        raise AnnotationError(f"an audit looks at 1 object at least, got {count}; 30 to 100 are usual.")
    known = sorted(labels)
    order = np.random.default_rng(seed).permutation(len(known))[:count]
    return tuple(known[i] for i in order.tolist())


def audit_places(
    planes: Sequence[Plane], frame_size: tuple[int, int], count: int, side_px: int, seed: int
) -> tuple[Place, ...]:
    """Windows at random places, each inside the image, in which missed objects are to be counted.

    Every position of a window that lies whole in the image is as likely as any other, in every plane.

    Parameters
    ----------
    planes : sequence of tuple of int
    frame_size : (H, W)
    side_px : int
        Of a window; one as large as the image is the image.

    Raises
    ------
    AnnotationError
        If `count` or `side_px` is below 1, or there is no plane.
    """
    if count < 1 or side_px < 1 or not planes:
        raise AnnotationError(
            f"an audit needs 1 place at least, of 1 pixel at least, in some plane; got {count} places of {side_px} px "
            f"in {len(planes)} planes."
        )
    rng = np.random.default_rng(seed)
    height, width = (min(side_px, n) for n in frame_size)
    places = []
    for _ in range(count):
        plane = planes[int(rng.integers(len(planes)))]
        y0 = int(rng.integers(frame_size[0] - height + 1))
        x0 = int(rng.integers(frame_size[1] - width + 1))
        places.append(Place(tuple(plane), Box(x0, y0, x0 + width, y0 + height)))
    return tuple(places)


def objects_in(place: Place, objects: Iterable[AnnotatedObject]) -> list[AnnotatedObject]:
    """The objects that belong to a place: the middle of their extent lies in it; rejected ones do not count."""
    found = []
    for known in objects:
        part = known.part(place.plane)
        if part is not None and known.verdict != "rejected" and place.box.contains(*part.extent.center_xy):
            found.append(known)
    return found


def wilson_interval(count: float, total: float) -> tuple[float, float]:
    """The 95 % score interval of Wilson (1927) of a proportion `count` / `total`.

    Unlike mean +- 2 standard errors it stays within [0, 1] and says something sensible of 20 out of 20. With nothing
    looked at it is (0, 1).

    Parameters
    ----------
    count, total : float
        0 <= count <= total; an effective sample need not be a whole number.

    Raises
    ------
    AnnotationError
        If they are not in that order.

    Examples
    --------
    >>> low, high = wilson_interval(18, 20)
    >>> round(low, 4), round(high, 4)
    (0.699, 0.9721)
    """
    if not 0 <= count <= total:
        raise AnnotationError(f"a proportion needs 0 <= count <= total, got {count} of {total}.")
    if total == 0:
        return 0.0, 1.0
    share, z2 = count / total, Z_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # At the ends the two halves cancel but for the last bit.
    low = 0.0 if count == 0 else max(0.0, middle - half)
    high = 1.0 if count == total else min(1.0, middle + half)
    return low, high


def precision_of(verdicts: Iterable[Verdict | None]) -> Proportion | None:
    """Precision from the verdicts on objects drawn at random: the share that was accepted as it was.

    A fixed object was wrong when it was drawn, so it counts as wrong, as a rejected one does; one without a verdict is
    not counted. The interval is Wilson's; that the sample was drawn without replacement makes it a little too wide.

    Returns
    -------
    Proportion or None
        None as long as there is no verdict.
    """
    given = [verdict for verdict in verdicts if verdict is not None]
    if not given:
        return None
    right = given.count("accepted")
    return Proportion(right / len(given), *wilson_interval(right, len(given)), right, len(given))


def recall_of(counts: Sequence[PlaceCount]) -> Proportion | None:
    """Recall from what was counted in random places: the share of the objects there that have a mask.

    The estimator is the ratio of sums over the k places, R = sum(found) / sum(found + missed): a place with more
    objects weighs more, as objects and not places are what is asked about. Objects of one place are alike (a blurred
    corner misses them together), so that n = sum(found + missed) objects say less than n independent ones would. The
    variance of a ratio over places drawn at random, by linearisation,

        V = k / (k - 1) * sum((found - R (found + missed))^2) / n^2,

    is compared with that of independent objects, R (1 - R) / n; their quotient d, at least 1, is how many times too
    large n is. The interval is Wilson's with R n / d of n / d objects. With one place, or where nothing or everything
    was missed, d cannot be known and is 1. Objects belong to the place their middle lies in; those very near the
    image's border are in fewer places than others, which matters where places are large.

    Returns
    -------
    Proportion or None
        None as long as no object was counted.
    """
    found = np.array([count.found for count in counts], dtype=float)
    all_there = np.array([count.found + count.missed for count in counts], dtype=float)
    n = float(all_there.sum())
    if n == 0:
        return None
    share = float(found.sum()) / n
    effective = n / _design_effect(found, all_there, share)
    low, high = wilson_interval(share * effective, effective)
    return Proportion(share, low, high, int(found.sum()), int(n))


def _design_effect(found: np.ndarray, all_there: np.ndarray, share: float) -> float:
    """How many times the variance of a ratio over places is that of independent objects; at least 1."""
    k, n = len(found), float(all_there.sum())
    independent = share * (1 - share) / n
    if k < 2 or independent == 0:
        return 1.0
    variance = k / (k - 1) * float(((found - share * all_there) ** 2).sum()) / n**2
    return max(1.0, variance / independent)
