"""The widget *Interactive segmentation*, and a session in a viewer."""
