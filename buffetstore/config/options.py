"""What the environment says about a store that is named by its URL alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from buffetstore.config.gcs import GCSConfig, gcs_options
from buffetstore.config.s3 import S3Config, s3_options
from buffetstore.config.settings import chosen, environment, fill, variable_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# The URL says where; botocore finds the keys.
_APART = {"project_id", "data_bucket", "archive_bucket", "backup_bucket", "temp_bucket"} | {
    *("bucket", "prefix", "access_key", "secret_key", "session_token")
}


def store_options_from_environment(url: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the options that the environment gives for ``open_store(url)``: nothing for local and memory URLs.

    Credentials of S3 are not among them: botocore's own chain finds them.

    Raises
    ------
    ConfigurationError
        Lists every variable that is malformed.
    """
    kinds: dict[str, type[GCSConfig | S3Config]] = {"gs": GCSConfig, "s3": S3Config}
    kind = kinds.get(urlsplit(url).scheme)
    if kind is None:
        return {}
    variables = environment(env, None)
    found = {field: value for field, value in chosen(kind.VARIABLES, variables).items() if field not in _APART}
    stand_in = {"project_id": "unset", "data_bucket": "unset"} if kind is GCSConfig else {"bucket": "unset"}
    config = kind.__new__(kind)
    fill(config, found | stand_in, "the environment", partial(variable_of, kind.VARIABLES, variables))
    options = config.model_dump(include=set(found))
    return s3_options(options) if kind is S3Config else gcs_options(options)
