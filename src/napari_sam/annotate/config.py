"""Settings of an annotation session."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam.annotate.policies import Policy, check_policy
from napari_sam.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """How a session behaves."""

    policy: Policy = "keep_pixels"
    """What becomes of pixels that belong to another object: overwrite, keep_pixels or keep_objects."""
    max_memory_mb: int = 512
    """Memory for labels; what is looked at least goes to a temporary folder beyond it."""
    chunk_px: int = 256
    """Side of the squares in which labels are kept."""
    sync_journal: bool = True
    """Wait for the disk after each act, so that a power cut loses nothing; a killed program never does."""

    def __post_init__(self) -> None:
        check_policy(self.policy)
        if self.max_memory_mb < 1:
            raise ConfigError(f"max_memory_mb must be at least 1, got {self.max_memory_mb}; the default is 512.")
