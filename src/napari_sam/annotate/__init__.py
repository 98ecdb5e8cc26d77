"""Annotation sessions without a window: prompts, answers, labels, a journal that replays to the same labels."""
