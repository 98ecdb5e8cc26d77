"""From a question about a plane to an answer: the window to look at, the prompts in it, and windows large enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.annotate.embeddings import EmbeddingStore
from napari_sam.annotate.prompts import (
    SCRIBBLE_SPACING_PX,
    BoxPrompt,
    Click,
    MaskPrompt,
    Plane,
    Prompt,
    Scribble,
    check_prompt,
    extent_of,
    prompt_kind,
)
from napari_sam.annotate.questions import Answer, Question
from napari_sam.annotate.segmenter import WindowAnswer, WindowQuestion
from napari_sam.annotate.windows import Window
from napari_sam.errors import PromptError, RunInterrupted
from napari_sam.geometry import Box, Mask, as_boxes, interior_points, intersection_area

LEAST_COVERAGE = 0.5
"""Part of a cut mask that its successor from a coarser window must cover to be the same object."""

ShouldStop = Callable[[], bool]
Ask = Callable[[Window], WindowQuestion]


def answer_question(store: EmbeddingStore, question: Question, should_stop: ShouldStop = lambda: False) -> Answer:
    """The masks of the object that the prompts point at, whole.

    The model looks at a window around the prompts, at the level the user looks at. A single click may mean a whole, a
    part or a subpart: it is answered by three masks, best predicted IoU first. More prompts are answered by one mask,
    and the model is also shown the mask before them (Kirillov et al. 2023, section 3 and appendix A). Where the
    best mask is cut by an edge of the window that is not the image's, the model looks again, at a window twice as
    coarse; but a box tells how far its object reaches.

    Parameters
    ----------
    store : EmbeddingStore
    question : Question
    should_stop : callable
        Asked before each look; may be called from any thread.

    Returns
    -------
    Answer
        In the plane's frame.

    Raises
    ------
    PromptError
        If there is no prompt, or one lies outside the image.
    RunInterrupted
        If `should_stop` said so.
    """
    if not question.prompts:
        raise PromptError("there is no prompt to answer; click on an object or drag a box around it first.")
    for prompt in question.prompts:
        check_prompt(prompt, store.image.frame_size)
    window = first_window(store, question)
    grows = not any(isinstance(prompt, BoxPrompt) for prompt in question.prompts)
    window, said = look(store, window, partial(question_in_window, question), grows=grows, should_stop=should_stop)
    return _as_answer(store, question, window, said)


def answer_boxes(
    store: EmbeddingStore,
    plane: Plane,
    boxes_xyxy: ArrayLike,
    *,
    view_step: int = 1,
    should_stop: ShouldStop = lambda: False,
) -> Iterator[tuple[int, Answer]]:
    """The object of each of many boxes, such as a detector gives; each window is embedded once.

    Parameters
    ----------
    store : EmbeddingStore
    plane : tuple of int
    boxes_xyxy : array of shape (N, 4)
        Half-open, full-resolution pixels.
    view_step : int
        Reduction at which the model looks, a power of two; a box that does not fit is looked at coarser.
    should_stop : callable
        Asked before each window and box.

    Yields
    ------
    index : int
        Which of the boxes; they come window by window.
    answer : Answer
        Of revision 0, with one mask.

    Raises
    ------
    PromptError
        If a box is empty, not finite or outside the image; before anything is answered.
    RunInterrupted
        If `should_stop` said so.
    """
    prompts = [BoxPrompt((x0, y0, x1, y1)) for x0, y0, x1, y1 in as_boxes(boxes_xyxy).tolist()]
    for prompt in prompts:
        check_prompt(prompt, store.image.frame_size)
    in_window: dict[Window, list[int]] = {}
    for index, prompt in enumerate(prompts):
        window = store.lattice.window_for(plane, extent_of(prompt), view_step)
        in_window.setdefault(window, []).append(index)
    in_order = sorted(in_window, key=lambda window: (window.step, window.box.y0, window.box.x0))
    return _iter_boxes(store, plane, prompts, [(window, in_window[window]) for window in in_order], should_stop)


def _iter_boxes(
    store: EmbeddingStore,
    plane: Plane,
    prompts: Sequence[Prompt],
    groups: Sequence[tuple[Window, list[int]]],
    should_stop: ShouldStop,
) -> Iterator[tuple[int, Answer]]:
    for window, indices in groups:
        for index in indices:
            question = Question(revision=0, object_id=0, plane=plane, prompts=(prompts[index],))
            ask = partial(question_in_window, question)
            yield index, _as_answer(store, question, *look(store, window, ask, grows=False, should_stop=should_stop))


def look(
    store: EmbeddingStore, window: Window, ask: Ask, *, grows: bool, should_stop: ShouldStop
) -> tuple[Window, WindowAnswer]:
    """What the model says about a window, or about the first coarser one that does not cut the best mask.

    Parameters
    ----------
    store : EmbeddingStore
    window : Window
        Looked at first.
    ask : callable
        The question in the pixels of a window.
    grows : bool
        Whether coarser windows may be looked at.
    should_stop : callable

    Returns
    -------
    window : Window
        That the answer is of.
    answer : WindowAnswer
        Its masks are ordered by predicted IoU, best first.

    Raises
    ------
    RunInterrupted
        If `should_stop` said so.
    """
    frame_size = store.image.frame_size
    said = _ask(store, window, ask, should_stop)
    while grows and (edges := window.cut_edges(said.masks[0], frame_size)):
        coarser = store.lattice.coarser(window, edges)
        if coarser is None:
            break
        seen = window.mask_to_plane(said.masks[0], frame_size)
        again = _ask(store, coarser, ask, should_stop)
        whole = coarser.mask_to_plane(again.masks[0], frame_size)
        if intersection_area(seen, whole) < LEAST_COVERAGE * seen.area:
            break  # at this reduction the model sees another object: the part is the better answer
        window, said = coarser, again
    return window, said


def _ask(store: EmbeddingStore, window: Window, ask: Ask, should_stop: ShouldStop) -> WindowAnswer:
    if should_stop():
        raise RunInterrupted("the question was withdrawn before it was answered; ask again when it is wanted.")
    said = store.segmenter.decode(store.get(window), ask(window))
    order = np.argsort(-np.asarray(said.predicted_iou), kind="stable").tolist()
    return WindowAnswer(
        tuple(said.masks[i] for i in order), tuple(said.predicted_iou[i] for i in order), said.low_res_logits[order]
    )


def first_window(store: EmbeddingStore, question: Question) -> Window:
    """Where the model looks first.

    The window of the former answer as long as it holds the prompts, so that a click there needs no new embedding; a
    finer one where the user has zoomed in since and the object fits into it.
    """
    extent = _extent(question.prompts)
    former = question.former
    if former is None or former.window is None or former.window.plane != question.plane:
        return store.lattice.window_for(question.plane, extent, question.view_step)
    known = [mask.box for mask in former.masks if not mask.is_empty]
    fitting = store.lattice.window_for(question.plane, reduce(Box.joined, known, extent), question.view_step)
    clipped = extent.clipped(Box.of_size(store.image.frame_size))
    return former.window if former.window.box.contains_box(clipped) and former.window.step <= fitting.step else fitting


def question_in_window(question: Question, window: Window) -> WindowQuestion:
    """The prompts of a question as the model is given them, by the paper's interactive rule.

    Scribbles become points along them. Of several boxes or masks the last counts; a mask gives a point as well, the
    one furthest inside, without which it says little to a model. The former answer takes part as mask logits if it was
    made in the same window; a painted mask replaces it until the next prompt.
    """
    boxes = [prompt for prompt in question.prompts if isinstance(prompt, BoxPrompt)]
    masks = [prompt for prompt in question.prompts if isinstance(prompt, MaskPrompt)]
    points, labels = _points([prompt for prompt in question.prompts if isinstance(prompt, Click | Scribble)], window)
    painted = window.mask_to_window(masks[-1].mask) if masks else None
    if painted is not None:
        # A mask thinner than a pixel of the window is lost there, its place is not.
        lost = painted.is_empty
        inside = window.points_to_window(interior_points(masks[-1].mask, 1)) if lost else interior_points(painted, 1)
        points, labels = np.concatenate([inside, points]), np.concatenate([[1], labels])
    is_ambiguous = _is_ambiguous(question.prompts)
    logits = None if is_ambiguous else _former_logits(question, window)
    return WindowQuestion(
        points,
        labels,
        box_xyxy=window.box_to_window(boxes[-1].box_xyxy) if boxes else None,
        mask=painted if logits is None and painted is not None and not painted.is_empty else None,
        mask_logits=logits,
        multimask=is_ambiguous,
    )


def _is_ambiguous(prompts: Sequence[Prompt]) -> bool:
    """Whether the prompts are a single click on the object, which may mean a whole, a part or a subpart."""
    return len(prompts) == 1 and isinstance(prompts[0], Click) and prompts[0].positive


def _former_logits(question: Question, window: Window) -> NDArray[Any] | None:
    former = question.former
    if former is None or former.window != window or former.logits is None:
        return None
    return None if isinstance(question.prompts[-1], MaskPrompt) else np.asarray(former.logits[former.best])


def _points(clicks: Sequence[Click | Scribble], window: Window) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points (N, 2) in window pixels and their labels (N,); points off the window are left out."""
    # Scribbles are sampled at the reduction the model sees: closer points would tell it nothing new.
    paths = [[c.xy] if isinstance(c, Click) else c.points_xy(SCRIBBLE_SPACING_PX * window.step) for c in clicks]
    points = window.points_to_window(np.concatenate([np.empty((0, 2)), *paths]))
    labels = np.repeat([int(c.positive) for c in clicks], [len(path) for path in paths]).astype(np.int64)
    height, width = window.size
    inside = ((points >= -0.5) & (points < (width - 0.5, height - 0.5))).all(axis=1)
    return points[inside], labels[inside]


def _extent(prompts: Sequence[Prompt]) -> Box:
    """What must be seen: the prompts on the object; those off it only where there are no others."""
    wanted = [p for p in prompts if not isinstance(p, Click | Scribble) or p.positive] or prompts
    return reduce(Box.joined, [extent_of(prompt) for prompt in wanted])


def _as_answer(store: EmbeddingStore, question: Question, window: Window, said: WindowAnswer) -> Answer:
    """The answer in the plane's frame."""
    named = prompt_kind(question.prompts[-1])
    first = question.prompts[0]
    point = first.xy if isinstance(first, Click) else None
    masks: list[Mask] = [
        replace(window.mask_to_plane(mask, store.image.frame_size), prompt=named, point_xy=point) for mask in said.masks
    ]
    return Answer(question.revision, tuple(masks), said.predicted_iou, window, said.low_res_logits)
