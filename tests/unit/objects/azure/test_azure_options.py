"""Settings, URLs and connection strings: what they mean, and what is refused before anything is sent."""

from __future__ import annotations

import base64

import pytest

from buffetstore.errors import ConfigurationError
from buffetstore.objects.azure import AzureStore
from buffetstore.objects.azure.options import AzureOptions, located
from buffetstore.objects.open import open_store

KEY = base64.b64encode(b"hush-hush").decode()


class Credential:
    async def get_token(self, *scopes):
        raise NotImplementedError


class Blocking:
    def get_token(self, *scopes):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("url", "options", "account", "endpoint"),
    [
        ("az://lake", {"account": "acct"}, "acct", "https://acct.blob.core.windows.net"),
        ("abfss://lake@acct.dfs.core.windows.net", {}, "acct", "https://acct.blob.core.windows.net"),
        ("abfs://lake@acct.blob.core.windows.net", {}, "acct", "https://acct.blob.core.windows.net"),
        ("abfss://lake@acct", {}, "acct", "https://acct.blob.core.windows.net"),
        ("abfss://lake@acct.dfs.core.chinacloudapi.cn", {}, "acct", "https://acct.blob.core.chinacloudapi.cn"),
        ("az://lake", {"endpoint_url": "http://127.0.0.1:1/acct/"}, "acct", "http://127.0.0.1:1/acct"),
        ("az://lake", {"endpoint_url": "https://acct.blob.example.com"}, "acct", "https://acct.blob.example.com"),
        (
            "az://lake",
            {"connection_string": f"DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={KEY};"},
            "acct",
            "https://acct.blob.core.windows.net",
        ),
        (
            "az://lake",
            {"connection_string": "BlobEndpoint=https://acct.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x"},
            "acct",
            "https://acct.blob.core.windows.net",
        ),
        (
            "az://lake",
            {"connection_string": "UseDevelopmentStorage=true"},
            "devstoreaccount1",
            "http://127.0.0.1:10000/devstoreaccount1",
        ),
    ],
)
def test_where_a_container_is(url, options, account, endpoint):
    place, _ = located(url, AzureOptions(**options))
    assert (place.url, place.container, place.account, place.endpoint) == (url, "lake", account, endpoint)


def test_a_connection_string_gives_the_credentials():
    _, options = located("az://lake", AzureOptions(connection_string=f"AccountName=acct;AccountKey={KEY}"))
    assert options.account_key.get_secret_value() == KEY
    text = "BlobEndpoint=https://a.b;SharedAccessSignature=sv=1&sig=x%3D"
    _, options = located("az://lake", AzureOptions(connection_string=text))
    assert options.sas_token.get_secret_value() == "sv=1&sig=x%3D"


@pytest.mark.parametrize(
    "url",
    [
        *("az://", "az://ab", "az://Lake", "az://a--b", "az://lake/prefix", "az://lake?sig=hush-hush"),
        *("s3://lake", "abfss://lake@acct:443", "abfss://user:hush-hush@lake"),
    ],
)
def test_a_malformed_url_is_refused_without_showing_a_secret(url):
    with pytest.raises(ConfigurationError, match="write az://container") as caught:
        AzureStore.from_url(url, account="acct")
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"account_key": "not base64!"}, "account_key"),
        ({"sas_token": "sv=2021"}, "sas_token"),
        ({"account_key": KEY, "sas_token": "sig=x"}, "account_key and sas_token exclude"),
        ({"connection_string": "a=b", "credential": Credential()}, "exclude"),
        ({"credential": Blocking()}, "azure.identity.aio"),
        ({"credential": "a-token"}, "get_token"),
        ({"endpoint_url": "ftp://host"}, "endpoint_url"),
        ({"endpoint_url": "https://user:hush-hush@host"}, "endpoint_url"),
        ({"account": "Not An Account"}, "account"),
        ({"max_connections": 0}, "max_connections"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"connect_timeout_seconds": -1}, "connect_timeout_seconds"),
        ({"page_size": 5001}, "page_size"),
        ({"part_bytes": 1}, "part_bytes"),
        ({"connection_string": "AccountKey=hush-hush;nonsense"}, "neither AccountName nor BlobEndpoint"),
        ({"connection_string": "hush-hush"}, "it has no names"),
        ({"acount": "x"}, "acount"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_malformed_option_is_named_and_secrets_are_not_shown(options, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        AzureStore.from_url("az://lake", **options)
    assert "hush-hush" not in str(caught.value)


def test_an_account_is_needed_and_only_one():
    with pytest.raises(ConfigurationError, match="which storage account"):
        AzureStore.from_url("az://lake")
    with pytest.raises(ConfigurationError, match="two storage accounts"):
        AzureStore.from_url("abfss://lake@acct.dfs.core.windows.net", account="other")


def test_secrets_are_not_in_what_is_printed():
    options = AzureOptions(account="acct", account_key=KEY)
    assert KEY not in repr(options)
    assert "hush" not in repr(AzureOptions(sas_token="sig=hush-hush"))
    assert KEY not in repr(AzureOptions(connection_string=f"AccountName=acct;AccountKey={KEY}"))


def test_a_url_with_a_path_is_a_prefix():
    store = open_store("abfss://lake@acct.dfs.core.windows.net/raw/data", account_key=KEY)
    assert store.url == "abfss://lake@acct.dfs.core.windows.net/raw/data"
    assert store.capabilities.signed_urls
    assert not open_store("az://lake", account="acct", sas_token="?sig=x").capabilities.signed_urls
