"""What the widget *Review* says, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.ui.interactive.session_control import SessionControl
from napari_sam.workflows.annotating.retraining import Retrained

if TYPE_CHECKING:
    from napari_sam.ui.review.round import Rounds


def session_text(control: SessionControl | None) -> str:
    """Whose objects are reviewed, and how far they are."""
    if control is None:
        return "No session yet: start one in Interactive segmentation, or open a result below."
    objects = control.session.objects.values()
    verdicts = [known.verdict for known in objects if known.verdict is not None]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {verdict}" for verdict in ("accepted", "fixed", "rejected") if verdict in verdicts
    )
    return f"{control.placed.layer.name}: {len(objects)} objects; {counts or 'none reviewed'}."


def item_text(rounds: Rounds) -> str:
    """The object or place under review."""
    if rounds.place is not None:
        return f"Place 1 of {rounds.places_left} left: how many objects in the frame have no mask?"
    if rounds.round is None:
        return ""
    item = rounds.item
    if item is None:
        skipped = f"; {rounds.round.skipped} skipped" if rounds.round.skipped else ""
        return f"All {len(rounds.round.labels)} objects of this round were looked at{skipped}."
    cut = " · cut by a seam" if item.is_cut else ""
    fixing = " · being mended" if rounds.is_fixing else ""
    scores = f"predicted IoU {item.predicted_iou:.2f} · stability {item.stability_score:.2f}"
    return f"Object {item.label} · {scores}{cut}{fixing}"


def audit_text(rounds: Rounds) -> str:
    """Precision and recall as far as they are known."""
    precision = rounds.record.precision(rounds.control.session.objects)
    recall = rounds.record.recall()
    lines = [f"{name} {found}" for name, found in (("Precision", precision), ("Recall", recall)) if found is not None]
    return "\n".join(lines) or "Not audited yet. The intervals hold the truth 95 times in 100."


def gain_text(result: Retrained) -> str:
    """The model before and after, on objects it never saw."""
    before, after = result.before, result.after
    told = f"{result.path.name}, judged on {after.objects} objects held back"
    scores = f"one click {before.one_click:.3f} → {after.one_click:.3f}, box {before.box:.3f} → {after.box:.3f}"
    verdict = "Better." if result.is_better else "Not better: keep the former model, or verify more objects."
    if result.one_click_gain is not None:
        low, high = result.one_click_gain
        verdict += f" Gain of one click {low:+.3f} to {high:+.3f} (95 %)."
    return f"{told}: mean IoU from {scores}. {verdict} It learned from {result.taught} objects."
