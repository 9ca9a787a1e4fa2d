"""What the tables of the settings tree are made of."""

from typing import Any

from pydantic import BaseModel, ConfigDict


def env(name: str) -> dict[str, Any]:
    """Field metadata: the environment variable that overrides the setting (`x-env` in the JSON Schema)."""
    return {"x-env": name}


class Section(BaseModel):
    """A table of the file. A key nobody knows is a mistake here; loading takes such keys out first and warns."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)
