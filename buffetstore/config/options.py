"""What the environment says about a store that is named by its URL alone, and about the layers around any store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from buffetstore.config.azure import AzureConfig, azure_options
from buffetstore.config.gcs import GCSConfig, gcs_options
from buffetstore.config.layers import LayerConfig
from buffetstore.config.s3 import S3Config, s3_options
from buffetstore.config.settings import chosen, environment, fill, variable_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buffetstore.objects.layers import Layers

    Options = Callable[[Mapping[str, Any]], dict[str, Any]]

Config: TypeAlias = AzureConfig | GCSConfig | S3Config

# The URL says where; botocore finds the keys.
_APART = {"project_id", "data_bucket", "archive_bucket", "backup_bucket", "temp_bucket"} | {
    *("bucket", "container", "prefix", "access_key", "secret_key", "session_token", "retry_attempts")
}
_AZURE = (AzureConfig, {"container": "unset"}, azure_options)
_KINDS: Mapping[str, tuple[type[Config], Mapping[str, str], Options]] = {
    "abfs": _AZURE,
    "abfss": _AZURE,
    "az": _AZURE,
    "gs": (GCSConfig, {"project_id": "unset", "data_bucket": "unset"}, gcs_options),
    "s3": (S3Config, {"bucket": "unset"}, s3_options),
}


def store_options_from_environment(url: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the options that the environment gives for ``open_store(url)``: nothing for local and memory URLs.

    Credentials of S3 are not among them: botocore's own chain finds them.

    Raises
    ------
    ConfigurationError
        Lists every variable that is malformed.
    """
    known = _KINDS.get(urlsplit(url).scheme)
    if known is None:
        return {}
    kind, stand_in, options = known
    variables = environment(env, None)
    found = {field: value for field, value in chosen(kind.VARIABLES, variables).items() if field not in _APART}
    config = kind.__new__(kind)
    fill(config, found | dict(stand_in), "the environment", partial(variable_of, kind.VARIABLES, variables))
    return options(config.model_dump(include=set(found)))


def layers_from_environment(where: str | Config, env: Mapping[str, str] | None = None) -> Layers:
    """Return the layers that the environment asks for; the attempts of a cloud's own setting go before general ones.

    Raises
    ------
    ConfigurationError
        Lists every variable that is malformed.
    """
    config = LayerConfig.from_environment(env=env)
    if not isinstance(where, str):
        own = where.retry_attempts if "retry_attempts" in where.model_fields_set else None
        return config.layers(retry_attempts=own)
    known = _KINDS.get(urlsplit(where).scheme)
    variables = environment(env, None)
    text = None if known is None else chosen(known[0].VARIABLES, variables).get("retry_attempts")
    if known is None or text is None:
        return config.layers()
    kind, stand_in, _ = known
    cloud = kind.__new__(kind)
    fill(
        cloud, {**stand_in, "retry_attempts": text}, "the environment", partial(variable_of, kind.VARIABLES, variables)
    )
    return config.layers(retry_attempts=cloud.retry_attempts)
