"""How soon each widget of the plugin is there, in a process of its own that has loaded nothing of it before.

    xvfb-run -s "-screen 0 1600x1200x24" python benchmarks/widget_opening.py [--limit-s 1]

"Opened" is from the call until the widget is drawn, beside the same for an empty magicgui widget in the same process;
"form" is when its fields are there, which are loaded on another thread. Seconds by the clock, and of the GUI thread's
own work, which other programs on the machine change less. Exit code 1 if one opens later than the limit in the
latter.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WIDGETS = ("Automatic segmentation", "Interactive segmentation", "Review", "Models")
MANIFEST = Path(__file__).resolve().parents[1] / "src" / "napari_sam" / "napari.yaml"
PATIENCE_S = 300


def measured(name: str) -> dict[str, float]:
    """Seconds of one widget, in this process."""
    import napari
    import npe2
    from magicgui import magicgui
    from qtpy.QtWidgets import QApplication

    manager = npe2.PluginManager.instance()
    if "napari-sam-tiles" not in manager:
        manager.register(npe2.PluginManifest.from_file(MANIFEST))
    viewer = napari.Viewer(show=True)
    _draw(QApplication)

    @magicgui
    def empty(number: int = 1) -> None: ...

    def opened(open_it: Any) -> tuple[float, float, Any]:
        clock, own = time.perf_counter(), time.thread_time()
        made = open_it()
        _draw(QApplication, times=2)
        return time.perf_counter() - clock, time.thread_time() - own, made

    plain_clock, plain_own, _ = opened(lambda: viewer.window.add_dock_widget(empty, name="empty"))
    clock, own, (_, widget) = opened(lambda: viewer.window.add_plugin_dock_widget("napari-sam-tiles", name))
    began, longest = time.perf_counter(), 0.0
    while widget.inside is None:
        if time.perf_counter() - began > PATIENCE_S:
            raise TimeoutError(f"{name} has no form after {PATIENCE_S} s")
        step = time.thread_time()
        QApplication.processEvents()
        longest = max(longest, time.thread_time() - step)
        time.sleep(0.001)
    waited = time.perf_counter() - began
    viewer.close()
    return {
        "clock_s": clock,
        "own_s": own,
        "plain_clock_s": plain_clock,
        "plain_own_s": plain_own,
        "form_s": clock + waited,
        "longest_own_s": longest,
    }


def _draw(application: Any, times: int = 5) -> None:
    for _ in range(times):
        application.processEvents()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--limit-s", type=float, default=1.0)
    parser.add_argument("--only", choices=WIDGETS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps(measured(asked.only)))
        return 0
    slowest = 0.0
    for name in WIDGETS:
        command = [sys.executable, __file__, "--only", name]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        slowest = max(slowest, found["own_s"])
        print(
            f"{name:25} opened {found['clock_s']:.2f} s, own work {found['own_s']:.3f} s "
            f"({found['own_s'] / found['plain_own_s']:.1f} x an empty widget); form after {found['form_s']:.1f} s, "
            f"longest own work at once meanwhile {found['longest_own_s']:.2f} s",
            flush=True,
        )
    return int(slowest > asked.limit_s)


if __name__ == "__main__":
    sys.exit(main())
