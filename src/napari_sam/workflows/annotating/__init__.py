"""Annotation sessions with a real model: opened, replayed, reviewed, learned from."""
