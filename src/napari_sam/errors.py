"""Every error a user can cause or meet, as one family.

Each message says what came, what is allowed and what to do next. Code that wants to tell "the user's input is
wrong" from "something broke" catches :class:`NapariSamError`.
"""


class NapariSamError(Exception):
    """Base of all errors this package raises on purpose."""


class PromptError(NapariSamError, ValueError):
    """Prompts (points, boxes, masks) have a wrong shape, label or position."""


class ConfigError(NapariSamError, ValueError):
    """A setting lies outside its range or contradicts another one."""


class TilingError(ConfigError):
    """A tile plan cannot be made from these settings."""


class ImageError(NapariSamError, ValueError):
    """An image cannot be opened, read or understood (format, axes, channels, values)."""


class CheckpointError(NapariSamError):
    """Model weights are missing, damaged, unsafe to load or do not fit the network."""


class DownloadError(CheckpointError):
    """A checkpoint could not be fetched or did not arrive as published."""


class OutputError(NapariSamError):
    """A result cannot be written where it was asked for."""


class LedgerError(NapariSamError):
    """The record of an earlier run cannot be used: damaged, or of another image or model."""


class TrainingError(NapariSamError, ValueError):
    """Training or evaluation data are unusable (pairs that do not fit, empty folders, bad labels)."""


class RunInterrupted(NapariSamError):
    """A run was asked to stop before its end; what is finished is kept, and the same call goes on from there."""


class AnnotationError(NapariSamError, ValueError):
    """An act of an annotation session cannot be done: nothing to commit, no such object, outside the image."""


class JournalError(NapariSamError):
    """The journal of an annotation session cannot be used: damaged, of another image, or held by another session."""
