"""The widget *Review*."""
