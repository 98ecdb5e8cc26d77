"""Images to try things on, and the demonstration; nothing is downloaded."""
