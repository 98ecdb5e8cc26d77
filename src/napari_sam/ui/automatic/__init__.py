"""The widget *Automatic segmentation*."""
