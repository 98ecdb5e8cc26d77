"""Zarr by URL: every chunk is one request, asked with patience, and what fails is said in our own words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore

from napari_sam.errors import ConfigError, ImageError, NapariSamError, OutputError
from napari_sam.images.arrays import reason
from napari_sam.images.cache import PieceCache
from napari_sam.images.urls import EXTRA_OF_PACKAGE, PACKAGE_OF_PROTOCOL, RemotePath, without_credentials

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype

Answer = TypeVar("Answer")

METADATA_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
ANSWER_SECONDS = 120.0
"""How long one request may take, its repetitions included."""
CONNECT_SECONDS = 20
WAITS = (0.5, 2.0)
"""Seconds before a failed request is repeated."""

_CONSOLIDATED = ".zmetadata"
"""What zarr looks for besides: all metadata in one file."""
_REFUSED = (401, 403)
_TOO_MANY = 429
_CHANGE_KEYS = ("LastModified", "Last-Modified", "updated", "created")
"""What file systems call the time of the last change."""


class RemoteStore(FsspecStore):
    """A zarr hierarchy at a URL.

    Failed requests are repeated, then raised as an error that names the place and the cause: ImageError for reading,
    OutputError for writing. A chunk that is not there is the fill value, as zarr says, but only while the image itself
    is there: of one that vanished, nothing is read as if it were empty.
    """

    def __init__(self, fs: Any, read_only: bool = False, path: str = "/", **settings: Any) -> None:
        super().__init__(fs, read_only, path, **settings)
        self.refusal: ImageError | None = None
        """Why metadata could not be read, where access to it was refused."""
        self._cache = PieceCache() if read_only else None
        self._metadata_key: str | None = None

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes of `key`, or None where it is not there; ImageError if that cannot be told."""
        name = (0, f"{key} {byte_range}")
        cached = self._cache.get(name) if self._cache is not None else None
        if cached is not None:
            return cached
        is_metadata = key.rpartition("/")[2] in (*METADATA_FILES, _CONSOLIDATED)
        fetch = super().get
        try:
            value = await self._ask(key, lambda: fetch(key, prototype, byte_range), ImageError)
        except ImageError as error:
            if not (is_metadata and error.__cause__ is not None and _is_refusal(error.__cause__)):
                raise
            # A bucket that may not be listed says so of all that is not there, and zarr looks for several names.
            self.refusal, value = error, None
        if value is None:
            if not is_metadata:
                await self._check_still_there(key)
            return None
        self._check_length(key, len(value), byte_range)
        if self._cache is not None:
            self._cache.put(name, value)
        if is_metadata:
            self._metadata_key = key
        return value

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Write the bytes of `key` whole; OutputError if that fails."""
        put = super().set
        await self._ask(key, lambda: put(key, value, byte_range), OutputError)

    async def changed(self, key: str) -> str | None:
        """When `key` was changed last, where the place tells."""
        info: Mapping[str, Any] = await self._ask(key, lambda: self.fs._info(f"{self.path}/{key}"), ImageError)
        return next((str(info[name]) for name in _CHANGE_KEYS if name in info), None)

    async def _check_still_there(self, key: str) -> None:
        """Raise if the whole image has gone, of which `key` was not found."""
        known, fetch = self._metadata_key, super().get
        if known is None:
            return
        if await self._ask(known, lambda: fetch(known, default_buffer_prototype()), ImageError) is not None:
            return
        raise ImageError(
            f"{self} is not there any more (neither {key} nor {known} is found); put it back, then the same command "
            "goes on."
        )

    def _check_length(self, key: str, length: int, byte_range: ByteRequest | None) -> None:
        """Refuse more bytes than were asked for: some servers send the whole file instead of a part."""
        most = None
        if isinstance(byte_range, RangeByteRequest):
            most = byte_range.end - byte_range.start
        elif isinstance(byte_range, SuffixByteRequest):
            most = byte_range.suffix
        if most is not None and length > most:
            raise ImageError(
                f"{self}/{key} is sent whole ({length} bytes) where {most} bytes of it were asked for: this server "
                "cannot send parts of files (HTTP ranges), which images in shards need. Copy the image to this machine."
            )

    async def _ask(self, key: str, request: Callable[[], Awaitable[Answer]], kind: type[NapariSamError]) -> Answer:
        """The answer to a request, repeated where that can help; an error of `kind` in our words otherwise."""
        waits = list(WAITS)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    try:
                        return await request()
                    except NapariSamError:
                        raise
                    except Exception as error:  # each protocol's library has errors of its own
                        if not waits or not _may_pass(error):
                            raise
                    await asyncio.sleep(waits.pop(0))
        except (NapariSamError, asyncio.CancelledError):
            raise
        except Exception as error:
            doing = "read" if kind is ImageError else "written"
            raise kind(f"{self}/{key} cannot be {doing}: {problem_of(error)}") from error

    def __str__(self) -> str:
        protocol = self.fs.protocol if isinstance(self.fs.protocol, str) else self.fs.protocol[0]
        return self.path if "://" in self.path else f"{protocol}://{self.path.lstrip('/')}"


def open_store(place: RemotePath, *, read_only: bool = True) -> RemoteStore:
    """The zarr store at a URL; nothing is asked of the place yet.

    Raises
    ------
    ConfigError
        If a package for this protocol is not installed.
    """
    fs = file_system(place)
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    # Wrapped, it stays in fsspec's own event loop, where it also closes its connections.
    wrapped = AsyncFileSystemWrapper(fs, asynchronous=True)
    return RemoteStore(wrapped, read_only=read_only, path=str(fs._strip_protocol(str(place))).rstrip("/"))


def file_system(place: RemotePath) -> Any:
    """fsspec's file system of a place; ConfigError if the package for its protocol is not installed."""
    package = PACKAGE_OF_PROTOCOL[place.protocol]
    if find_spec(package) is None:
        raise ConfigError(
            f"{place} needs the package {package}, which is not installed; run "
            f"`pip install 'napari-sam-tiles[{EXTRA_OF_PACKAGE[package]}]'`."
        )
    import fsspec

    # What a place lists may change while this process lives.
    return fsspec.filesystem(place.protocol, use_listings_cache=False, **_options(place.protocol))


def fetch(store: RemoteStore, key: str) -> bytes | None:
    """The bytes of `key`, None where it is not there; ImageError if that cannot be told."""
    found: Buffer | None = sync(store.get(key, default_buffer_prototype()))
    return None if found is None else found.to_bytes()


def time_of_change(store: RemoteStore, key: str) -> str | None:
    """When `key` was changed last, where the place tells."""
    changed: str | None = sync(store.changed(key))
    return changed


def problem_of(error: BaseException) -> str:
    """What went wrong and what to do about it, in one line without credentials."""
    if isinstance(error, TimeoutError):
        return f"there was no answer within {ANSWER_SECONDS:g} s. Check the network, then run the same again."
    why = without_credentials(reason(error)).rstrip(".")
    if _is_refusal(error):
        anonymous = " (a public bucket is read without any after FSSPEC_S3_ANON=true)" if _has_none(error) else ""
        return f"access was refused ({why}). Check the name and the credentials in the environment{anonymous}."
    if isinstance(error, FileNotFoundError):
        return f"there is no such place ({why}). Check the name of the bucket or host."
    return f"{why}. Check the URL and the network, then run the same again."


def _may_pass(error: Exception) -> bool:
    """Whether a request that failed so may succeed a moment later."""
    if _is_refusal(error) or isinstance(error, TimeoutError | FileNotFoundError | ValueError | TypeError):
        return False
    status = _status(error)
    return status == 0 or status == _TOO_MANY or status >= 500


def _is_refusal(error: BaseException) -> bool:
    """Whether the place knows us and says no, or there is nothing to be known by."""
    return _has_none(error) or isinstance(error, PermissionError) or _status(error) in _REFUSED


def _has_none(error: BaseException) -> bool:
    """Whether S3's library found no credentials."""
    return type(error).__name__ == "NoCredentialsError"  # by its name: it need not be installed


def _status(error: BaseException) -> int:
    """The HTTP status of an error; 0 if it has none."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else 0


def _options(protocol: str) -> dict[str, Any]:
    """Limits of time; all else, credentials too, comes from the environment, as fsspec looks for it."""
    if protocol in ("http", "https"):
        import aiohttp

        patience = aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=CONNECT_SECONDS)
        return {"client_kwargs": {"timeout": patience, "trust_env": True}}  # proxies and ~/.netrc
    if protocol == "s3":
        return {"config_kwargs": {"connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS}}
    return {}
