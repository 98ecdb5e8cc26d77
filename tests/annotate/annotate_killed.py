"""A session that works until it is killed; each finished act is told on standard output. Run by the test beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from annotate_scenes import commit_new, new_session

from napari_sam.geometry import Box, Mask

FRAME = (200, 200)


def work(journal: Path) -> None:
    rng = np.random.default_rng(1)
    session = new_session(journal, FRAME)
    while True:
        x, y, w, h = (int(v) for v in (*rng.integers(0, 190, 2), *rng.integers(1, 10, 2)))
        commit_new(session, Mask.from_window(np.ones((h, w), bool), Box(x, y, x + w, y + h), FRAME))
        if rng.random() < 0.3:
            session.undo()
        print(len(session.objects), int(np.asarray(session.labels).astype(np.int64).sum()), flush=True)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
