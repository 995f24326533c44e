"""The settings of object storage: where kept results and uploads are."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from service.settings import values
from service.settings.strict import Strict


class StorageSettings(Strict):
    """Where files are stored: a local folder, or a bucket that all processes reach."""

    url: str | None = Field(default=None, examples=["s3://bucket/dovecote"])
    """A bucket: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, with credentials from the usual variables of the
    provider, such as AWS_ACCESS_KEY_ID, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY; or a folder that all processes share: file:///folder. Default: the folder
    dovecote-objects beside the SQLite database; with PostgreSQL none."""
    endpoint: str | None = Field(default=None, examples=["https://minio.example.com:9000"])
    """The address of a server that speaks the protocol of S3 or Azure, where it is not Amazon's or Microsoft's own."""
    region: str | None = Field(default=None, examples=["eu-central-1"])
    """The region of the bucket at S3."""
    access_key_id: str | None = Field(default=None, examples=["AKIAEXAMPLE"])
    """The id of the access key at S3. Default: AWS_ACCESS_KEY_ID."""
    secret_access_key: SecretStr | None = Field(default=None, examples=["your-secret-access-key"])
    """The secret of that key. Default: AWS_SECRET_ACCESS_KEY."""
    min_free: int = Field(default=2**30, ge=0)
    """Bytes that a local folder leaves free on its disk. Beyond that nothing is stored."""

    @field_validator("url")
    @classmethod
    def _is_a_bucket(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("s3://", "gs://", "az://", "file:///")):
            raise ValueError("begins with none of s3://, gs://, az:// and file:///")
        return url

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        return None if url is None else values.check_http_url(url)

    @field_validator("secret_access_key")
    @classmethod
    def _is_a_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        return None if secret is None else values.check_secret(secret, values.MIN_UPSTREAM_KEY)

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together: set both or none")
        url = self.url or ""
        if any((self.region, self.access_key_id)) and not url.startswith("s3://"):
            raise ValueError("region and access_key_id are for a url that begins with s3://")
        if self.endpoint is not None and not url.startswith(("s3://", "az://")):
            raise ValueError("endpoint is for a url that begins with s3:// or az://")
        return self
