"""Every error that buffetstore raises, grouped by what a handler would do about it.

::

    StorageError
    ├── ConfigurationError (ValueError)            mend the settings
    │   └── MissingDependencyError (ImportError)   install the extra that is named
    ├── InvalidInputError (ValueError)             mend the argument
    │   ├── InvalidKeyError
    │   ├── InvalidRangeError
    │   ├── InvalidQueryError
    │   ├── UnknownDataTypeError
    │   ├── UnknownSchemaVersionError
    │   ├── IdempotencyKeyReusedError
    │   ├── ConstraintViolationError               `.constraint` of the table, `.rows` that break it
    │   ├── MappingError
    │   ├── IncompatibleSchemaError                `.reasons`: what a new version would break
    │   └── SchemaValidationError                  `.result` has the rows and rules
    ├── NotFoundError (FileNotFoundError)          it is not there
    │   ├── BucketNotFoundError
    │   ├── TableNotFoundError
    │   └── TableVersionNotFoundError
    ├── AccessError (PermissionError)              mend the credentials or the rights
    │   ├── AuthenticationError
    │   ├── PermissionDeniedError
    │   └── WrongKeyError                          encrypted with a key that is not held
    ├── ConflictError                              somebody else was first: read again, decide again
    │   ├── AlreadyExistsError (FileExistsError)
    │   ├── PreconditionFailedError
    │   └── CommitConflictError
    ├── CommitUnknownError                         neither known to be there nor known not to be
    ├── UnsupportedError                           refused by name, never half done
    │   ├── UnsupportedOperationError
    │   └── UnsupportedFeatureError
    ├── CorruptionError                            bytes are not what was written
    │   ├── ChecksumMismatchError                  (transient: read again)
    │   ├── CorruptFileError
    │   ├── CorruptLogError
    │   └── TamperedError                          encrypted bytes that do not authenticate
    ├── StorageFullError                           make room, or raise the quota
    └── UnavailableError                           transient: try again later
        ├── CircuitOpenError                       (not retried: `retry_after` says when)
        ├── DeadlineExceededError (TimeoutError)
        └── RateLimitedError

`code` is stable and is what metrics and ``--json`` show. `transient` says that the same call may succeed later,
`ambiguous` that a failed write may nevertheless have been applied.
"""

from __future__ import annotations

from typing import Any, ClassVar


class StorageError(Exception):
    """Root of every error raised by buffetstore.

    Parameters
    ----------
    message:
        What happened, the offending value (never a secret), and what to do next.
    key:
        The object, table or data type concerned.
    retry_after:
        Seconds that the service asked to wait, where it did.
    ambiguous:
        The write may have been applied although it failed.
    """

    code: ClassVar[str] = "storage_error"
    transient: ClassVar[bool] = False

    def __init__(
        self, message: str, *, key: str | None = None, retry_after: float | None = None, ambiguous: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.key = key
        self.retry_after = retry_after
        self.ambiguous = ambiguous

    def __str__(self) -> str:
        return self.message


class ConfigurationError(StorageError, ValueError):
    """The settings are missing or malformed; the message lists every one of them."""

    code = "configuration"


class MissingDependencyError(ConfigurationError, ImportError):
    """An optional dependency is not installed; the message says which extra to install."""

    code = "missing_dependency"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'buffetstore[{extra}]'")


class InvalidInputError(StorageError, ValueError):
    """An argument cannot be right; nothing was done."""

    code = "invalid_input"


class InvalidKeyError(InvalidInputError):
    """The key is empty, absolute, has `.` or `..` segments or control characters, or is too long."""

    code = "invalid_key"


class InvalidRangeError(InvalidInputError):
    """The byte range starts at or after the end of the object, or is malformed."""

    code = "invalid_range"


class InvalidQueryError(InvalidInputError):
    """The query names an unknown column or operator, or ends before it starts."""

    code = "invalid_query"


class UnknownDataTypeError(InvalidInputError):
    """No contract is registered under this name."""

    code = "unknown_data_type"


class UnknownSchemaVersionError(InvalidInputError):
    """The data type has no such schema version."""

    code = "unknown_schema_version"


class IdempotencyKeyReusedError(InvalidInputError):
    """Under this idempotency key other rows were written; nothing was done."""

    code = "idempotency_key_reused"


class ConstraintViolationError(InvalidInputError):
    """Rows break a constraint that the table declares; nothing was written."""

    code = "constraint_violation"

    def __init__(self, message: str, *, key: str, constraint: str, rows: int) -> None:
        super().__init__(message, key=key)
        self.constraint = constraint
        self.rows = rows


class MappingError(InvalidInputError):
    """The mapping does not fit the data: a column that is not there, a file name that does not match."""

    code = "mapping"


class IncompatibleSchemaError(InvalidInputError):
    """A schema may not follow the versions before it; `reasons` lists what stands against it, in words."""

    code = "incompatible_schema"

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), key: str | None = None) -> None:
        super().__init__(message, key=key)
        self.reasons = reasons


class SchemaValidationError(InvalidInputError):
    """Rows break their contract; `result` is the `ValidationResult` with every finding."""

    code = "schema_validation"

    def __init__(self, message: str, *, result: Any, key: str | None = None) -> None:
        super().__init__(message, key=key)
        self.result = result


class NotFoundError(StorageError, FileNotFoundError):
    """The object is not there."""

    code = "not_found"


class BucketNotFoundError(NotFoundError):
    """The bucket, container or root folder is not there."""

    code = "bucket_not_found"


class TableNotFoundError(NotFoundError):
    """There is no Delta table at this path."""

    code = "table_not_found"


class TableVersionNotFoundError(NotFoundError):
    """The table has no such version, or its log entries have been cleaned up."""

    code = "table_version_not_found"


class AccessError(StorageError, PermissionError):
    """The store refuses the caller."""

    code = "access"


class AuthenticationError(AccessError):
    """Credentials are absent, wrong or expired."""

    code = "authentication"


class PermissionDeniedError(AccessError):
    """The credentials are good but do not allow this."""

    code = "permission_denied"


class WrongKeyError(AccessError):
    """The object is encrypted with a key that is not held, or that is another one of the same name."""

    code = "wrong_key"


class ConflictError(StorageError):
    """Somebody else was first."""

    code = "conflict"


class AlreadyExistsError(ConflictError, FileExistsError):
    """A `put(mode=CREATE)` was lost: the key holds somebody else's object."""

    code = "already_exists"


class PreconditionFailedError(ConflictError):
    """The object's version is not the one that was expected."""

    code = "precondition_failed"


class CommitConflictError(ConflictError):
    """A concurrent commit changed what this one had read; the table is as the other left it."""

    code = "commit_conflict"


class CommitUnknownError(StorageError):
    """The commit could not be settled in time: it may or may not be there.

    `version` and `commit_id` say what to look for in the table's log; a write that had an `idempotency_key` is simply
    sent again under the same key.
    """

    code = "commit_unknown"

    def __init__(
        self,
        message: str,
        *,
        key: str,
        version: int,
        commit_id: str,
        idempotency_key: str | tuple[str, int] | None = None,
    ) -> None:
        super().__init__(message, key=key, ambiguous=True)
        self.version = version
        self.commit_id = commit_id
        self.idempotency_key = idempotency_key


class UnsupportedError(StorageError):
    """It cannot be done here, and is refused rather than half done."""

    code = "unsupported"


class UnsupportedOperationError(UnsupportedError):
    """The store or data type does not offer the operation."""

    code = "unsupported_operation"


class UnsupportedFeatureError(UnsupportedError):
    """The table needs a protocol version, feature or type that is not supported; the message names it."""

    code = "unsupported_feature"


class CorruptionError(StorageError):
    """Bytes are not what was written."""

    code = "corruption"


class ChecksumMismatchError(CorruptionError):
    """A transfer's bytes do not have the checksum that the service gave: a fault on the way, so try again."""

    code = "checksum_mismatch"
    transient = True


class CorruptFileError(CorruptionError):
    """A data file cannot be decoded."""

    code = "corrupt_file"


class CorruptLogError(CorruptionError):
    """The table's log has a gap or an entry that cannot be read."""

    code = "corrupt_log"


class TamperedError(CorruptionError):
    """Encrypted bytes do not authenticate: they were changed, cut, or moved from another place."""

    code = "tampered"


class StorageFullError(StorageError):
    """The disk is full, or a quota is used up; nothing was written."""

    code = "storage_full"


class UnavailableError(StorageError):
    """The service did not answer, or answered that it cannot now."""

    code = "unavailable"
    transient = True


class CircuitOpenError(UnavailableError):
    """The service failed so often of late that it is not asked until `retry_after` seconds have passed."""

    code = "circuit_open"
    transient = False


class DeadlineExceededError(UnavailableError, TimeoutError):
    """The call's time ran out."""

    code = "deadline_exceeded"


class RateLimitedError(UnavailableError):
    """The service asks for fewer requests (429, SlowDown)."""

    code = "rate_limited"
