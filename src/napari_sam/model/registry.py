"""The checkpoints this package knows by name: where they are, how to recognise them, what they are good at.

Facts only, no torch: `napari-sam models list` answers at once. Every entry is in SAM's published state-dict layout or
in our own; the instance decoders that some publishers offer as separate files are not used.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from napari_sam.errors import CheckpointError

HashKind = Literal["sha256", "md5", "xxh128"]

APACHE = "Apache-2.0"
BIOIMAGEIO_LICENCE = "CC-BY-4.0 (as its BioImage.IO export declares)"
NO_LICENCE = "none stated by the publisher; ask before redistributing"

SAM_FILES = "https://dl.fbaipublicfiles.com/segment_anything"
MOBILE_SAM_FILES = "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights"
BIOIMAGEIO_FILES = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
GWDG_FILES = "https://owncloud.gwdg.de/index.php/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointEntry:
    """One checkpoint that can be asked for by name."""

    name: str
    architecture: str
    """A name in `model.presets.PRESETS`, or "own": the file's header carries its configuration."""
    file_name: str
    """Name in the cache, in a bundle and under a mirror; unique in the registry. For `built_in`: in the package."""
    urls: tuple[str, ...]
    """Tried in order; empty for a built-in."""
    hash_kind: HashKind | None
    """The strongest hash known of the published file; None only for built-ins, whose installer has checked them."""
    digest: str | None
    """The hash in lower-case hexadecimal."""
    size_bytes: int | None
    """Size of the published file where it is known."""
    licence: str
    good_at: str
    """One line for a person who chooses."""
    built_in: bool = False

    @property
    def sha256(self) -> str | None:
        """The SHA-256, where it is known."""
        return self.digest if self.hash_kind == "sha256" else None

    @property
    def pin(self) -> str | None:
        """The pinned hash as `kind:digest`, None for a built-in."""
        return None if self.hash_kind is None else f"{self.hash_kind}:{self.digest}"


def _sam(name: str, file_name: str, sha256: str, size_bytes: int, good_at: str) -> CheckpointEntry:
    return CheckpointEntry(
        name=name,
        architecture=name,
        file_name=file_name,
        urls=(f"{SAM_FILES}/{file_name}",),
        hash_kind="sha256",
        digest=sha256,
        size_bytes=size_bytes,
        licence=APACHE,
        good_at=good_at,
    )


def _micro_sam(name: str, url: str, xxh128: str, licence: str, good_at: str) -> CheckpointEntry:
    # The publisher pins xxh128 only. That is no cryptographic hash: it tells a damaged or exchanged file, not a forged
    # one. Like every pickle these are read with weights_only.
    return CheckpointEntry(
        name=name,
        architecture="_".join(name.split("_")[:2]),
        file_name=f"{name}.pt",
        urls=(url,),
        hash_kind="xxh128",
        digest=xxh128,
        size_bytes=None,
        licence=licence,
        good_at=good_at,
    )


def _bioimageio(name: str, record: str, xxh128: str, good_at: str) -> CheckpointEntry:
    file_name = "_".join(name.split("_")[:2]) + ".pt"
    return _micro_sam(name, f"{BIOIMAGEIO_FILES}/{record}/files/{file_name}", xxh128, BIOIMAGEIO_LICENCE, good_at)


def _gwdg(name: str, share: str, xxh128: str, good_at: str) -> CheckpointEntry:
    return _micro_sam(name, f"{GWDG_FILES}/{share}/download", xxh128, NO_LICENCE, good_at)


_ENTRIES = (
    CheckpointEntry(
        name="nano",
        architecture="own",
        file_name="nano.safetensors",
        urls=(),
        hash_kind=None,
        digest=None,
        size_bytes=None,
        licence="BSD-3-Clause",
        good_at="cells and nuclei on a laptop CPU, offline; the default",
        built_in=True,
    ),
    _sam(
        "vit_b",
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
        "everyday photographs and aerial images; the smallest of the paper's models",
    ),
    _sam(
        "vit_l",
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_249_524_607,
        "as vit_b, finer outlines; three times slower",
    ),
    _sam(
        "vit_h",
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
        "as vit_b, the paper's best quality; wants a GPU",
    ),
    CheckpointEntry(
        name="vit_t",
        architecture="vit_t",
        file_name="mobile_sam.pt",
        urls=(f"{MOBILE_SAM_FILES}/mobile_sam.pt", f"{GWDG_FILES}/TuDzuwVDHd1ZDnQ/download"),
        hash_kind="sha256",
        digest="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        size_bytes=40_728_226,
        licence=APACHE,
        good_at="MobileSAM: as vit_b and nearly as good, about five times faster on a CPU",
    ),
    _bioimageio(
        "vit_t_lm",
        "faithful-chicken/1.1",
        "72ec5074774761a6e5c05a08942f981e",
        "light microscopy: cells and nuclei; fast",
    ),
    _bioimageio(
        "vit_b_lm",
        "diplomatic-bug/1.2",
        "fe9252a29f3f4ea53c15a06de471e186",
        "light microscopy: cells and nuclei; the usual choice of micro-sam",
    ),
    _bioimageio(
        "vit_l_lm",
        "idealistic-rat/1.2",
        "017f20677997d628426dec80a8018f9d",
        "light microscopy: cells and nuclei; best and slowest",
    ),
    _bioimageio(
        "vit_t_em_organelles",
        "greedy-whale/1",
        "253474720c497cce605e57c9b1d18fd9",
        "electron microscopy: mitochondria, nuclei and other organelles; fast",
    ),
    _bioimageio(
        "vit_b_em_organelles",
        "noisy-ox/1.2",
        "f3bf2ed83d691456bae2c3f9a05fb438",
        "electron microscopy: mitochondria, nuclei and other organelles",
    ),
    _bioimageio(
        "vit_l_em_organelles",
        "humorous-crab/1.2",
        "810b084b6e51acdbf760a993d8619f2d",
        "electron microscopy: mitochondria, nuclei and other organelles; best and slowest",
    ),
    _gwdg(
        "vit_b_histopathology", "sBB4H8CTmIoBZsQ", "ffd1a2cd84570458b257bd95fdd8f974", "stained tissue: nuclei in H&E"
    ),
    _gwdg(
        "vit_l_histopathology",
        "IZgnn1cpBq2PHod",
        "b591833c89754271023e901281dee3f2",
        "stained tissue: nuclei in H&E; slower",
    ),
    _gwdg(
        "vit_h_histopathology",
        "L7AcvVz7DoWJ2RZ",
        "bd1856dafc156a43fb3aa705f1a6e92e",
        "stained tissue: nuclei in H&E; best and slowest, wants a GPU",
    ),
    _gwdg(
        "vit_b_medical_imaging",
        "f5Ol4FrjPQWfjUF",
        "40169f1e3c03a4b67bff58249c176d92",
        "medical images: organs and lesions in CT, MR, ultrasound and X-ray",
    ),
)

REGISTRY: Mapping[str, CheckpointEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def find_entry(name: str) -> CheckpointEntry:
    """The registry's entry of that name.

    Raises
    ------
    CheckpointError
        If there is none; the message lists near matches and all names.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name.lower(), REGISTRY, n=3, cutoff=0.5)
    guess = f" Did you mean {' or '.join(near)}?" if near else ""
    raise CheckpointError(
        f"there is no model called {name!r}.{guess} Known models: {', '.join(REGISTRY)}. "
        "A checkpoint of your own is named by its path, such as ./my_model.safetensors."
    )


def size_text(size_bytes: int) -> str:
    """A file size for a person, in decimal units: "375 MB"."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
