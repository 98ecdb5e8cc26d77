"""Where an image or a label image is: a path of this machine, or a URL of a place that fsspec reaches."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from napari_sam.errors import ConfigError

PACKAGE_OF_PROTOCOL: Mapping[str, str] = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "memory": "fsspec",
}
"""What has to be installed for URLs of each protocol; `file://` is a path of this machine."""
EXTRA_OF_PACKAGE: Mapping[str, str] = {"s3fs": "remote", "aiohttp": "remote", "fsspec": "remote", "gcsfs": "gs"}
"""The extra of ours that brings each package."""
READ_ONLY_PROTOCOLS = ("http", "https")

# `pathlib` makes one slash of the two: a URL that went through a Path is known all the same.
_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/+)(?P<rest>.*)", re.DOTALL)
_HOST = re.compile(r"(?:[^\s:@\[\]]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")
_BUCKET = re.compile(r"[^\s:@]+|arn:[^\s@]+")
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/+)[^\s'\">]*@")


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A place that is reached by URL; there is never a user name, a password or a signature in it."""

    protocol: str
    location: str
    """Host or bucket, and the path in it, without a slash at the end."""

    def __str__(self) -> str:
        return f"{self.protocol}://{self.location}"

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.protocol, f"{self.location}/{name.strip('/')}")

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.location).name

    @property
    def suffix(self) -> str:
        """The end of the name, with its dot."""
        return PurePosixPath(self.location).suffix

    @property
    def is_of_this_process(self) -> bool:
        """Whether other processes cannot see it."""
        return self.protocol == "memory"

    def holds(self, other: RemotePath) -> bool:
        """Whether `other` is this place, or inside it."""
        return other == self or str(other).startswith(f"{self}/")


def place_of(given: str | os.PathLike[str] | RemotePath) -> Path | RemotePath:
    """What a user gave, as a path of this machine or a place that is reached by URL.

    Raises
    ------
    ConfigError
        If it is a URL of another protocol, or one with credentials or a query; the message repeats nothing of these.

    Examples
    --------
    >>> place_of("s3://bucket/slide.ome.zarr/").name
    'slide.ome.zarr'
    >>> place_of("file:///data/slide.tif")
    PosixPath('/data/slide.tif')
    """
    if isinstance(given, RemotePath):
        return given
    text = os.fspath(given)
    found = _URL.fullmatch(text.replace("\\", "/"))
    protocol = found["protocol"].lower() if found else ""
    if found and protocol == "file":
        return Path("/" + found["rest"])
    if found and protocol in PACKAGE_OF_PROTOCOL:
        return _checked(protocol, found["rest"].rstrip("/"))
    if found and len(found["slashes"]) > 1:
        raise ConfigError(
            f"URLs that start with {protocol}:// are not read or written; allowed are "
            f"{', '.join(f'{name}://' for name in (*PACKAGE_OF_PROTOCOL, 'file'))}. Copy the file here first."
        )
    return Path(text).expanduser()


def local_path(given: str | os.PathLike[str]) -> Path:
    """`given` as a path of this machine; ConfigError where it is the URL of another place."""
    place = place_of(given)
    if isinstance(place, RemotePath):
        raise ConfigError(
            f"{place} is a URL; these are taken for a zarr image to read and for the label image of `segment` only. "
            "Give a path of this machine here, and copy the file from or to there."
        )
    return place


def without_credentials(text: str) -> str:
    """`text`, in which a user name and password of a URL are replaced by stars.

    Examples
    --------
    >>> without_credentials("<Store https://me:secret@host/a.zarr>")
    '<Store https://***@host/a.zarr>'
    """
    return _CREDENTIALS.sub(r"\1***@", text)


def _checked(protocol: str, location: str) -> RemotePath:
    host = location.partition("/")[0]
    if protocol in READ_ONLY_PROTOCOLS and ("?" in location or "#" in location):
        raise ConfigError(
            f"this {protocol}:// URL has a query or a fragment (? or #), so it cannot name a folder, as zarr images "
            "are; leave that part out, or copy the image to this machine."
        )
    if not (_HOST if protocol in READ_ONLY_PROTOCOLS else _BUCKET).fullmatch(host):
        raise ConfigError(
            f"this {protocol}:// URL names no host or bucket, or it has a user name and password in it. These would be "
            "seen by others in lists of processes and in logs: leave them out and put them where fsspec looks for "
            "them (S3: AWS_ACCESS_KEY_ID or ~/.aws; HTTP: ~/.netrc; Google: gcloud's own)."
        )
    return RemotePath(protocol, location)
