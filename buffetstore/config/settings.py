"""What every configuration shares: how it is read, and how it complains.

Every fault of a configuration is found in one go and told in one `ConfigurationError` that names the argument,
variable or output to mend.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource

from buffetstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import ErrorDetails

Compression = Literal["zstd", "snappy", "lz4", "gzip", "none", "auto"]

IP_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


def endpoint(address: str) -> str:
    """Return `address` as a URL; a bare ``host:port``, as emulators print it, is taken for http."""
    address = (address if "://" in address else f"http://{address}").rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is not an http(s) URL or host:port")
    return address


Endpoint = Annotated[str, AfterValidator(endpoint)]


class Settings(BaseModel):
    """What configurations share: how they are read, and how they complain."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True)

    VARIABLES: ClassVar[Mapping[str, Sequence[str]]]
    """Field -> the variables that set it, the first that is set wins."""
    ON_DEMAND: ClassVar[Sequence[str]] = ()
    """Optional fields that some operations require."""

    if not TYPE_CHECKING:  # type checkers keep the signature that pydantic gives

        def __init__(self, **values: Any) -> None:
            fill(self, values, "its arguments", str)

    @classmethod
    def from_environment(
        cls, *, strict: bool = False, env: Mapping[str, str] | None = None, env_file: str | Path | None = None
    ) -> Self:
        """Read the variables of `VARIABLES`; an empty variable counts as not set.

        Parameters
        ----------
        strict:
            Ask now for what only some operations need, instead of when they need it.
        env:
            Instead of ``os.environ``.
        env_file:
            A `.env` file; variables of `env` win over it.

        Raises
        ------
        ConfigurationError
            Lists every variable that is missing or malformed.
        """
        variables = environment(env, env_file)
        found = chosen(cls.VARIABLES, variables)
        missing = [field for field in cls.ON_DEMAND if strict and field not in found]
        config = cls.__new__(cls)
        fill(config, found, "the environment", partial(variable_of, cls.VARIABLES, variables), missing)
        return config

    @classmethod
    def from_terraform_output(cls, path: str | Path, **overrides: Any) -> Self:
        """Read the file that ``terraform output -json`` of our module wrote, or a plain JSON object of the fields.

        Outputs that are no field are ignored, nulls count as absent, `overrides` win.

        Raises
        ------
        ConfigurationError
            The file is missing, is not JSON, or lists every output that is missing or malformed.
        """
        outputs = _json_object(Path(path))
        found = {name: _output_value(outputs[name]) for name in cls.model_fields if name in outputs}
        found = {name: value for name, value in found.items() if value is not None and value != ""}
        config = cls.__new__(cls)
        fill(config, found | overrides, str(path), "output {!r}".format)
        return config

    def require(self, field: str) -> str:
        """Return the setting, or raise `ConfigurationError` naming the variable that sets it."""
        value = getattr(self, field)
        if value is None:
            name = type(self).__name__
            raise ConfigurationError(
                f"this operation needs {field}: set {self.VARIABLES[field][0]} or pass {name}({field}=...)"
            )
        return str(value)


def environment(env: Mapping[str, str] | None, env_file: str | Path | None) -> dict[str, str]:
    """Return all variables, those of `env` over those of the file, without the empty ones."""
    variables: dict[str, str] = {}
    if env_file is not None:
        if not Path(env_file).is_file():
            raise ConfigurationError(f"env_file {str(env_file)!r} is not there")
        source = DotEnvSettingsSource(BaseSettings, env_file=env_file, env_file_encoding="utf-8", case_sensitive=True)
        variables |= _filled(source.env_vars)
    return variables | _filled(os.environ if env is None else env)


def _filled(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value is not None and value.strip()}


def chosen(names: Mapping[str, Sequence[str]], variables: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of `names` that a variable sets; the first variable that is set wins."""
    setting = ((field, next((v for v in choices if v in variables), None)) for field, choices in names.items())
    return {field: variables[variable] for field, variable in setting if variable is not None}


def variable_of(names: Mapping[str, Sequence[str]], variables: Mapping[str, str], field: str) -> str:
    """Return the variable that set `field`, or that would."""
    choices = names[field]
    return next((name for name in choices if name in variables), choices[0])


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}): write it with `terraform output -json > {path.name}`"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON ({error}): write it with `terraform output -json`") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds a JSON {type(content).__name__}, not an object of outputs")
    return content


def _output_value(output: Any) -> Any:
    """Unwrap Terraform's ``{"sensitive": ..., "type": ..., "value": ...}``."""
    return output["value"] if isinstance(output, dict) and "value" in output else output


def fill(
    config: Settings, values: Mapping[str, Any], where: str, naming: Callable[[str], str], missing: Sequence[str] = ()
) -> None:
    """Validate `values` into `config`, or raise one error that lists every fault by the name that `naming` gives."""
    faults = [f"{naming(field)} is not set" for field in missing]
    try:
        BaseModel.__init__(config, **values)
    except ValidationError as error:
        faults = [_fault(type(config), found, naming) for found in error.errors()] + faults
    if faults:
        raise ConfigurationError(f"{type(config).__name__} from {where}: " + "; ".join(faults))


def _fault(kind: type[Settings], error: ErrorDetails, naming: Callable[[str], str]) -> str:
    reason = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return reason
    field = str(error["loc"][0])
    if error["type"] == "missing":
        return f"{naming(field)} is not set"
    if field not in kind.model_fields:
        close = get_close_matches(field, kind.model_fields, 1)
        return f"{field!r} is not a setting" + (f" (did you mean {close[0]!r}?)" if close else "")
    secret = SecretStr in get_args(kind.model_fields[field].annotation)
    value = "" if secret else f" is {error['input']!r}"
    return f"{naming(field)}{value}: {reason}"
