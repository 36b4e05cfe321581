"""Which jobs are the same: a hash of the settings that a training depends on."""

from __future__ import annotations

import hashlib
from typing import Any

IMMATERIAL: Any = {
    "name": True,
    "logger": True,
    "on_error": True,
    "allow_targets": True,
    "trainer": {"checkpoint_seconds"},
}
"""Settings that say where a run is kept and how it is watched; the trained weights do not depend on them."""


def identity(config: Any) -> str:
    """The identity of a Config's training: 16 hexadecimal digits."""
    text = config.model_dump_json(exclude=IMMATERIAL)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
