"""Settings of what is remembered of what was read, above the store: data files, and answers."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic evaluates the annotation
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field

from buffetstore.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Bytes = Annotated[int, Field(ge=0)]
_MIB = 1024 * 1024


class CacheConfig(Settings):
    """The caches of a manager. All are right for ever: files never change, and answers are kept by table version.

    Parameters
    ----------
    memory_bytes:
        Memory for data files and parts of them (DATA_CACHE_BYTES).
    folder, disk_bytes:
        Where they are kept besides, and how much of them (DATA_CACHE_DIR, DATA_CACHE_DISK_BYTES); None keeps none.
        Processes may share the folder: whoever may read it reads what is in it.
    results_bytes, results_ttl_seconds:
        Memory for answers, and how long one is kept; 0 keeps none, and None is until others need its place
        (RESULTS_CACHE_BYTES, RESULTS_CACHE_TTL_SECONDS).
    """

    VARIABLES: ClassVar[Mapping[str, Sequence[str]]] = {
        "memory_bytes": ("DATA_CACHE_BYTES",),
        "folder": ("DATA_CACHE_DIR",),
        "disk_bytes": ("DATA_CACHE_DISK_BYTES",),
        "results_bytes": ("RESULTS_CACHE_BYTES",),
        "results_ttl_seconds": ("RESULTS_CACHE_TTL_SECONDS",),
    }

    memory_bytes: Bytes = 256 * _MIB
    folder: Path | None = None
    disk_bytes: Bytes = 1024 * _MIB
    results_bytes: Bytes = 64 * _MIB
    results_ttl_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @classmethod
    def chosen(cls, *, env: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Return what the environment says, except for what is given and not None.

        Raises
        ------
        ConfigurationError
            Lists every variable, or every argument, that is malformed.
        """
        found = cls.from_environment(env=env).model_dump()
        return cls(**found | {name: value for name, value in given.items() if value is not None})
