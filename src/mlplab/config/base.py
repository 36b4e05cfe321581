"""What every settings class has in common, and the one error that a person's mistake becomes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class SettingError(ValueError):
    """A person's mistake: the message says what was given, what is allowed and what to change."""


class Settings(BaseModel):
    """A typed, frozen group of settings. No field has a default here: the defaults stand once, in conf/*.yaml."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Target(Settings):
    """A class or function of your own, by dotted name: the door for what the shipped options lack."""

    target: str
    """Dotted name, such as `my_package.nets.MyNet`."""
    kwargs: dict[str, object]
    """Keyword arguments handed to it as they are."""
