from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import pytest
from pydantic import ValidationError

from buffetstore.config import (
    AzureConfig,
    GCSConfig,
    LayerConfig,
    S3Config,
    layers_from_environment,
    store_options_from_environment,
)
from buffetstore.errors import ConfigurationError
from buffetstore.objects.layers import Layers
from buffetstore.objects.open import open_store
from buffetstore.resilience.retry import RetryPolicy

ENOUGH = {"GOOGLE_CLOUD_PROJECT": "my-project", "GCS_DATA_BUCKET": "my-data"}
EVERYTHING = ENOUGH | {
    "GCS_ARCHIVE_BUCKET": "my-archive",
    "GCS_BACKUP_BUCKET": "my-backup",
    "GCS_TEMP_BUCKET": "my-temp",
    "GCS_SERVICE_ACCOUNT_EMAIL": "writer@my-project.iam.gserviceaccount.com",
    "GCS_REGION": "europe-west3",
    "GCS_KMS_KEY_ID": "projects/p/locations/l/keyRings/r/cryptoKeys/k",
    "GCS_MAX_CONNECTIONS": "7",
    "GCS_RETRY_ATTEMPTS": "5",
    "GCS_TIMEOUT_SECONDS": "2.5",
    "GCS_COMPRESSION": "zstd",
    "GOOGLE_APPLICATION_CREDENTIALS": "/keys/account.json",
    "STORAGE_EMULATOR_HOST": "localhost:9023",
}


def test_two_variables_are_enough_and_the_rest_has_the_documented_defaults():
    config = GCSConfig.from_environment(env=ENOUGH)

    assert config == GCSConfig(project_id="my-project", data_bucket="my-data")
    assert (config.max_connections, config.retry_attempts, config.timeout_seconds) == (50, 3, 60)
    assert (config.compression, config.archive_bucket, config.url) == ("snappy", None, "gs://my-data")


def test_every_variable_is_read_and_set_by_exactly_one_field():
    config = GCSConfig.from_environment(env=EVERYTHING, strict=True)

    read = config.model_dump(mode="json")
    given = {field: EVERYTHING[variables[0]] for field, variables in GCSConfig.VARIABLES.items()}
    assert read.pop("emulator_host") == "http://" + given.pop("emulator_host")
    assert {field: str(value) for field, value in read.items()} == given
    assert set(GCSConfig.VARIABLES) == set(GCSConfig.model_fields)
    assert set(S3Config.VARIABLES) == set(S3Config.model_fields)


def test_the_process_environment_is_read_by_default(monkeypatch):
    for name, value in ENOUGH.items():
        monkeypatch.setenv(name, value)
    assert GCSConfig.from_environment().data_bucket == "my-data"


def test_one_error_lists_every_missing_and_malformed_variable():
    bad = {"GCS_DATA_BUCKET": " ", "GCS_RETRY_ATTEMPTS": "many", "GCS_COMPRESSION": "zip", "GCS_TIMEOUT_SECONDS": "nan"}
    with pytest.raises(ConfigurationError) as caught:
        GCSConfig.from_environment(env=bad)

    for expected in (
        "GOOGLE_CLOUD_PROJECT is not set",
        "GCS_DATA_BUCKET is not set",
        "GCS_RETRY_ATTEMPTS is 'many'",
        "GCS_COMPRESSION is 'zip'",
        "GCS_TIMEOUT_SECONDS is 'nan'",
    ):
        assert expected in str(caught.value)
    assert caught.value.code == "configuration"
    assert not isinstance(caught.value, ValidationError)


def test_strict_asks_for_everything_at_once_beside_what_is_malformed():
    with pytest.raises(ConfigurationError) as caught:
        GCSConfig.from_environment(env=ENOUGH | {"GCS_MAX_CONNECTIONS": "0"}, strict=True)

    for name in ("GCS_ARCHIVE_BUCKET", "GCS_BACKUP_BUCKET", "GCS_TEMP_BUCKET", "GCS_SERVICE_ACCOUNT_EMAIL"):
        assert f"{name} is not set" in str(caught.value)
    assert "GCS_MAX_CONNECTIONS is '0'" in str(caught.value)


def test_require_names_the_variable():
    with pytest.raises(ConfigurationError, match="GCS_TEMP_BUCKET"):
        GCSConfig.from_environment(env=ENOUGH).require("temp_bucket")
    assert GCSConfig.from_environment(env=EVERYTHING).require("temp_bucket") == "my-temp"


def test_arguments_are_checked_like_variables_and_a_slip_is_answered_with_the_nearest_setting():
    with pytest.raises(ConfigurationError, match=r"'data_buckets' is not a setting .did you mean 'data_bucket'"):
        GCSConfig(project_id="p", data_buckets="my-data")
    with pytest.raises(ConfigurationError, match="service_account_email is 'nobody'"):
        GCSConfig(project_id="p", data_bucket="my-data", service_account_email="nobody")


def test_a_configuration_is_frozen():
    config = GCSConfig(project_id="p", data_bucket="my-data")
    with pytest.raises(ValidationError, match="frozen"):
        config.data_bucket = "other"


@pytest.mark.parametrize("name", ["abc", "my-data_1", "a" * 63, "data.example.com", "1-2", "a.b_c"])
def test_bucket_names_that_google_allows(name):
    assert GCSConfig(project_id="p", data_bucket=name).data_bucket == name


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 64, "My-Data", "-data", "data-", "a..b", "a.-b", "192.168.5.4", "goog-data", "my-g00gle", "my data",
     ".".join(["a" * 60] * 4), "a/b", "abc\ndef"],
)  # fmt: skip
def test_bucket_names_that_google_refuses(name):
    with pytest.raises(ConfigurationError, match="data_bucket is"):
        GCSConfig(project_id="p", data_bucket=name)


@pytest.mark.parametrize("name", ["ab", "a_b", "A-b-c", "a..b", "1.2.3.4", "xn--abc", "abc-s3alias", "a" * 64])
def test_bucket_names_that_s3_refuses(name):
    with pytest.raises(ConfigurationError, match="bucket is"):
        S3Config(bucket=name)


def test_an_env_file_is_read_and_the_environment_wins(tmp_path):
    file = tmp_path / ".env"
    file.write_text("# settings\nGOOGLE_CLOUD_PROJECT='from-file'\nGCS_DATA_BUCKET=from-file\nGCS_REGION=\n")

    config = GCSConfig.from_environment(env={"GCS_DATA_BUCKET": "from-env", "GOOGLE_CLOUD_PROJECT": ""}, env_file=file)

    assert (config.project_id, config.data_bucket, config.region) == ("from-file", "from-env", None)
    with pytest.raises(ConfigurationError, match="is not there"):
        GCSConfig.from_environment(env=ENOUGH, env_file=tmp_path / "absent.env")


def test_terraform_output_and_plain_json(tmp_path):
    file = tmp_path / "terraform_output.json"
    values = {"project_id": "p", "data_bucket": "my-data", "temp_bucket": "my-temp", "kms_key_id": None, "region": "eu"}
    file.write_text(json.dumps({k: {"sensitive": False, "type": "string", "value": v} for k, v in values.items()}))
    wrapped = GCSConfig.from_terraform_output(file)
    file.write_text(json.dumps(values | {"an_output_of_theirs": [1, 2]}))

    assert wrapped == GCSConfig.from_terraform_output(str(file))
    assert wrapped == GCSConfig(project_id="p", data_bucket="my-data", temp_bucket="my-temp", region="eu")
    assert GCSConfig.from_terraform_output(file, compression="zstd").compression == "zstd"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "terraform output -json"),
        ("{", "is not JSON"),
        ("[]", "not an object"),
        ('{"data_bucket": {"value": "BAD"}}', "output 'project_id' is not set; output 'data_bucket' is 'BAD'"),
    ],
)
def test_a_bad_terraform_file_says_what_to_mend(tmp_path, content, message):
    file = tmp_path / "terraform_output.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        GCSConfig.from_terraform_output(file)
    assert "terraform_output.json" in str(caught.value)


def test_options_for_the_stores_leave_out_what_is_not_set():
    assert GCSConfig.from_environment(env=ENOUGH).store_options() == {
        "max_connections": 50,
        "timeout_seconds": 60.0,
    }
    config = GCSConfig.from_environment(env=EVERYTHING | {"STORAGE_EMULATOR_HOST": ""})
    assert config.store_options() == {
        "service_file": EVERYTHING["GOOGLE_APPLICATION_CREDENTIALS"],
        "service_account_email": EVERYTHING["GCS_SERVICE_ACCOUNT_EMAIL"],
        "kms_key": EVERYTHING["GCS_KMS_KEY_ID"],
        "max_connections": 7,
        "timeout_seconds": 2.5,
    }
    assert RetryPolicy(**config.retry_options()).attempts == 5


def test_an_emulator_is_sent_no_credentials():
    options = GCSConfig.from_environment(env=EVERYTHING).store_options()
    assert options == {"api_root": "http://localhost:9023", "max_connections": 7, "timeout_seconds": 2.5}


def test_the_stores_take_the_options():
    for config in (
        GCSConfig.from_environment(env=EVERYTHING),
        GCSConfig.from_environment(env=EVERYTHING | {"STORAGE_EMULATOR_HOST": ""}),
        S3Config(bucket="my-data", prefix="lake", access_key="a", secret_key="b", region="eu-west-1"),
    ):
        store = open_store(config.url, **config.store_options())
        assert store.url == config.url
        asyncio.run(store.aclose())


def test_secrets_of_s3_are_never_shown():
    config = S3Config(bucket="my-data", prefix="/lake/", access_key="AKIA1", secret_key="hush-hush")

    assert config.url == "s3://my-data/lake"
    assert "hush-hush" not in repr(config) + str(config) + repr(config.store_options())
    assert config.store_options()["secret_key"].get_secret_value() == "hush-hush"
    with pytest.raises(ConfigurationError) as caught:
        S3Config(bucket="my-data", access_key="AKIA1", secret_key=["hush-hush"])
    assert "hush-hush" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"AWS_SECRET_ACCESS_KEY.* come together"):
        S3Config(bucket="my-data", access_key="AKIA1")


def test_options_of_a_bare_url_come_from_the_environment():
    env = {"AWS_ENDPOINT_URL": "http://one", "AWS_ENDPOINT_URL_S3": "http://two/", "AWS_DEFAULT_REGION": "eu-west-1"}
    env |= {"AWS_ACCESS_KEY_ID": "a", "S3_BUCKET": "NOT USED", "S3_PATH_STYLE": "false"}

    assert store_options_from_environment("s3://elsewhere/lake", env) == {
        "endpoint_url": "http://two",
        "region": "eu-west-1",
        "path_style": False,
    }
    assert store_options_from_environment("gs://elsewhere", EVERYTHING)["max_connections"] == 7
    assert store_options_from_environment("gs://elsewhere", {"STORAGE_EMULATOR_HOST": "h:1"}) == {
        "api_root": "http://h:1"
    }
    assert store_options_from_environment("memory://", EVERYTHING) == {}
    with pytest.raises(ConfigurationError, match="S3_MAX_CONNECTIONS is 'lots'"):
        store_options_from_environment("s3://b", {"S3_MAX_CONNECTIONS": "lots"})
    with pytest.raises(ConfigurationError, match="STORAGE_EMULATOR_HOST is 'ftp://h'"):
        store_options_from_environment("gs://b", {"STORAGE_EMULATOR_HOST": "ftp://h"})


class TestLayers:
    EVERY: ClassVar[dict[str, str]] = {
        "OBJECT_ENCRYPTION_KEYS": "new=" + "A" * 43 + "=, old=" + "B" * 42 + "A=",
        "ENABLE_CACHE": "true",
        "CACHE_DIR": "/tmp/cache",
        "CACHE_MEMORY_BYTES": "1",
        "CACHE_DISK_BYTES": "2",
        "CACHE_TTL_SECONDS": "3",
        "CACHE_FRESH_SECONDS": "4",
        "FALLBACK_URL": "gs://copy",
        "REPLICA_URLS": "s3://one, az://two",
        "ENABLE_HEDGING": "1",
        "HEDGE_PERCENTILE": "0.9",
        "HEDGE_BUDGET": "0.1",
        "RETRY_ATTEMPTS": "7",
        "RETRY_BASE_SECONDS": "0.5",
        "RETRY_MAX_SECONDS": "5",
        "RETRY_DEADLINE_SECONDS": "6",
        "RETRY_BUDGET": "8",
        "CALL_SECONDS": "9",
        "ENABLE_CIRCUIT_BREAKER": "yes",
        "CIRCUIT_FAILURE_RATIO": "0.6",
        "CIRCUIT_MINIMUM_CALLS": "10",
        "CIRCUIT_OPEN_SECONDS": "11",
        "RATE_REQUESTS_PER_SECOND": "12",
        "RATE_BYTES_PER_SECOND": "13",
        "MAX_CONCURRENT_CALLS": "14",
        "MAX_BYTES_IN_FLIGHT": "15",
    }

    def test_every_layer_is_set_by_its_variables(self):
        assert set(self.EVERY) == {names[0] for names in LayerConfig.VARIABLES.values()}
        layers = LayerConfig.from_environment(env=self.EVERY).layers()
        assert layers.encryption.current_key_id == "new"
        cache = layers.cache
        assert (cache.memory_bytes, str(cache.folder), cache.disk_bytes) == (1, "/tmp/cache", 2)
        assert (cache.ttl_seconds, cache.fresh_seconds) == (3, 4)
        assert cache.immutable("raw/bars/year=2024/AAPL-1.parquet")
        assert not cache.immutable("raw/bars/_delta_log/00000000000000000010.checkpoint.parquet")
        assert (layers.fallback, layers.replicas) == ("gs://copy", ("s3://one", "az://two"))
        assert (layers.hedge.percentile, layers.hedge.budget) == (0.9, 0.1)
        retry = layers.retry
        assert (retry.attempts, retry.base_seconds, retry.max_seconds, retry.deadline_seconds) == (7, 0.5, 5, 6)
        assert (retry.budget, retry.call_seconds) == (8, 9)
        circuit = layers.circuit
        assert (circuit.failure_ratio, circuit.minimum_calls, circuit.open_seconds) == (0.6, 10, 11)
        assert (layers.rate.requests_per_second, layers.rate.bytes_per_second) == (12, 13)
        assert (layers.limit.calls, layers.limit.bytes_in_flight) == (14, 15)

    def test_without_any_there_are_retries_only(self):
        assert LayerConfig.from_environment(env={}).layers() == Layers()
        assert LayerConfig.from_environment(env={"CACHE_DIR": "/tmp/c"}).layers().cache is None

    @pytest.mark.parametrize(
        ("variable", "value"),
        [("RETRY_ATTEMPTS", "0"), ("CACHE_TTL_SECONDS", "-1"), ("ENABLE_CACHE", "perhaps"), ("HEDGE_PERCENTILE", "2")],
    )
    def test_what_is_wrong_is_named(self, variable, value):
        with pytest.raises(ConfigurationError, match=f"{variable} is '{value}'"):
            LayerConfig.from_environment(env={variable: value})

    @pytest.mark.parametrize("keys", ["no-separator", "k=notbase64!", "k=c2hvcnQ="])
    def test_keys_that_are_none_are_not_shown(self, keys):
        with pytest.raises(ConfigurationError, match="OBJECT_ENCRYPTION_KEYS") as wrong:
            LayerConfig.from_environment(env={"OBJECT_ENCRYPTION_KEYS": keys})
        assert keys.partition("=")[2] not in str(wrong.value) or "=" not in keys

    def test_a_clouds_own_attempts_go_first(self):
        env = {"RETRY_ATTEMPTS": "4", "S3_RETRY_ATTEMPTS": "9", "GCS_RETRY_ATTEMPTS": "2"}
        for url, attempts in (("s3://b", 9), ("gs://b", 2), ("az://b", 4), ("memory://", 4)):
            assert layers_from_environment(url, env).retry.attempts == attempts
        assert layers_from_environment(S3Config(bucket="data", retry_attempts=5), env).retry.attempts == 5
        assert layers_from_environment(S3Config(bucket="data"), env).retry.attempts == 4
        with pytest.raises(ConfigurationError, match="S3_RETRY_ATTEMPTS"):
            layers_from_environment("s3://b", {"S3_RETRY_ATTEMPTS": "many"})


class TestAzure:
    def test_settings_become_options(self):
        env = {
            "AZURE_CONTAINER": "lake",
            "AZURE_PREFIX": "raw",
            "AZURE_STORAGE_ACCOUNT": "acct",
            "AZURE_STORAGE_KEY": "c2VjcmV0",
            "AZURE_STORAGE_ENDPOINT": "127.0.0.1:10000/devstoreaccount1",
            "AZURE_RETRY_ATTEMPTS": "6",
        }
        config = AzureConfig.from_environment(env=env)
        assert config.url == "az://lake/raw"
        options = config.store_options()
        assert (options["account"], options["endpoint_url"]) == ("acct", "http://127.0.0.1:10000/devstoreaccount1")
        assert "c2VjcmV0" not in repr(config) + repr(options)
        assert open_store(config.url, **options).url.startswith("az://")
        assert store_options_from_environment("az://lake", env)["account"] == "acct"
        assert "container" not in store_options_from_environment("abfss://lake@acct.dfs.core.windows.net", env)

    @pytest.mark.parametrize("name", ["A", "ab", "two--hyphens", "-a-", "x" * 64])
    def test_names_of_containers(self, name):
        with pytest.raises(ConfigurationError, match="container"):
            AzureConfig(container=name)
