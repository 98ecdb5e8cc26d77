"""Data sets in SA-1B's layout: written, read, counted, described, judged (paper, section 5)."""
