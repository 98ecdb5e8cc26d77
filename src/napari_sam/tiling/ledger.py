"""The record of a run beside its output: what was asked for, and every piece of it that is finished.

The folder holds `manifest.json`, a `lock`, a `record-id` where labels go to a URL (see `remote_lock`), and one folder a
stage, named by a hash of all that the stage depends on::

    tiles-<hash>/    tile-0000012.npz (masks), tile-0000013.failed (why), skipped.npz
    merge-<hash>/    reprompt-0000012-00003.npz (one answer each), objects.npz
    output-<hash>/   left to whoever writes the output

So a changed parameter redoes just the stages after it. The folders of other parameters stay until a restart: going back
to earlier settings costs nothing, and they are small beside the image.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from napari_sam.errors import LedgerError
from napari_sam.tiling.lock import FolderLock
from napari_sam.tiling.store import TileStore
from napari_sam.tiling.writing import output_errors, write_bytes

FORMAT_VERSION = 1
STAGES = ("segment", "merge", "output")
STAGE_FOLDERS = {"segment": "tiles", "merge": "merge", "output": "output"}
HASH_DIGITS = 16

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """What a run depends on, as plain JSON values. Two runs with equal keys give equal bytes."""

    image: Json
    """What identifies the image: path, shape, type, time of change, ..."""
    model: Json
    """What identifies the model: name, fingerprint."""
    version: str
    """Of this package. Another one redoes all stages: its algorithms may differ."""
    segment: Json
    """All that the masks of a tile depend on besides image and model: normalisation, prompts, thresholds, tile plan."""
    merge: Json
    """All that the merge depends on besides the tiles."""
    output: Json
    """All that the written files depend on besides the objects."""

    def stage_hashes(self) -> dict[str, str]:
        """One hash a stage, of its own settings and of all stages before it."""
        upstream = _hash([FORMAT_VERSION, self.version, self.image, self.model])
        hashes = {}
        for stage in STAGES:
            upstream = hashes[stage] = _hash([upstream, getattr(self, stage)])
        return hashes


class Ledger:
    """The open ledger of one run; no other run can open it until it is closed."""

    def __init__(self, folder: Path, key: RunKey, image_size: tuple[int, int], lock: FolderLock) -> None:
        self.folder = folder
        self.key = key
        self.hashes = key.stage_hashes()
        self.tiles = TileStore(self.stage_folder("segment"), image_size)
        self._lock = lock

    @classmethod
    def open(cls, folder: Path | str, key: RunKey, image_size: tuple[int, int], *, restart: bool = False) -> Ledger:
        """Open the ledger of a run, to begin it or to go on with it.

        Parameters
        ----------
        folder : path
            Made if it is missing.
        key : RunKey
        image_size : (H, W)
        restart : bool
            Forget what earlier runs left there. Only a ledger's own files are removed.

        Raises
        ------
        LedgerError
            If another run holds it, its manifest cannot be read, or it is of another image or model (the message says
            what differs).
        OutputError
            If the folder cannot be written to.
        """
        path = Path(folder)
        with output_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(path)
        lock.acquire()
        try:
            if restart:
                _remove_records(path)
            _check_manifest(path / "manifest.json", key)
            ledger = cls(path, key, image_size, lock)
            ledger._prepare()
        except BaseException:
            lock.release()
            raise
        return ledger

    def stage_folder(self, stage: str) -> Path:
        """Where the records of a stage ("segment", "merge" or "output") with these parameters are."""
        return self.folder / f"{STAGE_FOLDERS[stage]}-{self.hashes[stage]}"

    def close(self) -> None:
        """Let other runs have it."""
        self._lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        with output_errors(self.folder):
            for stage in STAGES:
                self.stage_folder(stage).mkdir(exist_ok=True)
                for partial in self.stage_folder(stage).glob("*.partial"):
                    partial.unlink(missing_ok=True)  # a worker of a run that was killed may be about to do so
        write_bytes(self.folder / "manifest.json", _manifest(self.key).encode())


def _manifest(key: RunKey) -> str:
    hashes = key.stage_hashes()
    content = {
        "format": FORMAT_VERSION,
        "version": key.version,
        "image": key.image,
        "model": key.model,
        "stages": {stage: {"hash": hashes[stage], "settings": getattr(key, stage)} for stage in STAGES},
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _check_manifest(path: Path, key: RunKey) -> None:
    """Refuse a ledger that another image or model left; other parameters only lead to other stage folders."""
    if not path.exists():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        format_version = int(content["format"])
        found = {"image": dict(content["image"]), "model": dict(content["model"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{path} is damaged ({error}); restart the run (--restart), which removes what it left."
        ) from error
    if format_version != FORMAT_VERSION:
        raise LedgerError(
            f"{path} has format {format_version}, this version of napari-sam-tiles reads format {FORMAT_VERSION}; "
            "restart the run (--restart), or use the version that began it."
        )
    wanted = json.loads(json.dumps({"image": key.image, "model": key.model}))
    differences = [
        f"{part} {name}: {found[part].get(name)!r} there, {wanted[part].get(name)!r} now"
        for part in wanted
        for name in sorted({*found[part], *wanted[part]})
        if found[part].get(name) != wanted[part].get(name)
    ]
    if differences:
        raise LedgerError(
            f"{path.parent} is the ledger of another run ({'; '.join(differences)}); "
            "choose another output, or restart (--restart) to replace it."
        )


def _remove_records(folder: Path) -> None:
    with output_errors(folder):
        (folder / "manifest.json").unlink(missing_ok=True)
        for name in STAGE_FOLDERS.values():
            for stage in folder.glob(f"{name}-{'[0-9a-f]' * HASH_DIGITS}"):
                shutil.rmtree(stage)


def _hash(value: Any) -> str:
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    except TypeError as error:
        raise LedgerError(
            f"what a run depends on must be plain JSON values ({error}); turn it into numbers, text, lists."
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]
