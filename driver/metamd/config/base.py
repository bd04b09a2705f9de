"""What all tables share: unknown keys are errors, values are frozen, docstrings are the docs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**31)]
NonNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=60)]


class Table(BaseModel):
    """One table of a run file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
