"""Drafts of record classes from data files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from buffetstore.errors import CorruptFileError, NotFoundError
from buffetstore.schemas.interchange.inference import SAMPLE, draft_from_arrow, draft_from_parquet

if TYPE_CHECKING:
    from pathlib import Path

    from buffetstore.schemas.interchange.source import Draft


def draft_from_file(file: Path, data_type: str, form: str) -> Draft:
    """Return the draft of a Parquet file's rows, or of an Arrow (IPC, Feather) file's.

    Raises
    ------
    NotFoundError, CorruptFileError
        There is no such file; it is none of that format.
    """
    if form == "parquet":
        return draft_from_parquet(file, data_type)
    try:
        with pa.OSFile(str(file)) as opened:
            table = pa.ipc.open_file(opened).read_all()
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {file}") from error
    except (pa.ArrowException, OSError) as error:
        raise CorruptFileError(f"{file} is no Arrow file that can be read: {error}") from error
    return draft_from_arrow(table.slice(0, SAMPLE), data_type)
