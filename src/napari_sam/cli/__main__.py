"""`python -m napari_sam.cli`: the same as `napari-sam`."""

from napari_sam.cli import main

raise SystemExit(main())
