"""A session that is killed while it works reopens with at most its last act missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from annotate_killed import FRAME
from annotate_scenes import commit_new, image_of, rectangle

from napari_sam.annotate.session import AnnotationSession, replay

HERE = Path(__file__).parent


def killed_session(journal: Path, acts: int, extra_bytes: int) -> list[tuple[int, int]]:
    """(objects, sum of the labels) after each act that the killed session finished."""
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src")])
    process = subprocess.Popen(
        [sys.executable, str(HERE / "annotate_killed.py"), str(journal)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
        text=True,
    )
    with process:
        told = [process.stdout.readline() for _ in range(acts)]
        size = journal.stat().st_size
        while journal.stat().st_size < size + extra_bytes:  # a moment inside an act, another one each time
            time.sleep(0.0002)
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    return [tuple(map(int, line.split())) for line in told if line.endswith("\n")]


def test_a_killed_session_reopens_with_at_most_the_last_act_missing(tmp_path):
    for acts, extra in ((1, 0), (4, 150), (9, 400)):
        journal = tmp_path / f"{acts}.jsonl"
        told = killed_session(journal, acts, extra)
        result = replay(journal)
        with AnnotationSession.resume(journal, image_of(FRAME)) as session:
            labels = np.asarray(session.labels)
            assert np.asarray(result.labels).tobytes() == labels.tobytes()
            # Back to the last act that was told: what came after it is at most the one that was going on.
            back = 0
            while (len(session.objects), int(np.asarray(session.labels).astype(np.int64).sum())) != told[-1]:
                (session.redo if session.can_redo and back == 0 else session.undo)()
                back += 1
                assert back <= 2
            label = commit_new(session, rectangle(0, 0, 3, 3, FRAME))
            assert session.objects[label].area == 9
