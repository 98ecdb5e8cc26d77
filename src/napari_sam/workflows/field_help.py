"""The help of a configuration's fields, read from where they are written: options are spelled out once."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import lru_cache
from itertools import pairwise


@lru_cache
def field_help(config: type) -> dict[str, str]:
    """The text below each field of a config dataclass, as one line, by field name.

    Examples
    --------
    >>> from napari_sam.tiling import TilingConfig
    >>> field_help(TilingConfig)["merge_iou_thresh"]
    'Masks of two tiles are the same object above this mask IoU.'
    """
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    statements = body.body if isinstance(body, ast.ClassDef) else []
    texts = {}
    for field, text in pairwise(statements):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            texts[field.target.id] = " ".join(str(text.value.value).split())
    return texts
