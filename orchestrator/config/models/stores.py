"""Buckets that results are uploaded to."""

from __future__ import annotations

from pydantic import Field, model_validator

from orchestrator.config.models.common import ExistingFile, Model, Secret, Verbatim, wrong
from orchestrator.config.models.dataset import Endpoint, S3Address, not_in_the_clear


class Bucket(Model):
    """A bucket in S3, or in what speaks its language."""

    s3: S3Address = Field(
        description="The bucket, and what the objects' names begin with.", examples=["s3://models/ci"]
    )
    endpoint: Endpoint | None = Field(
        default=None,
        description="Address of a server other than Amazon's.",
        examples=["https://minio.example.org"],
    )
    region: Verbatim | None = Field(default=None, description="Its region.", examples=["eu-central-1"])
    access_key: Secret | None = Field(
        default=None,
        description="Id of the access key; without it, what the environment or the machine's role gives.",
        examples=["${{ env.S3_ACCESS_KEY }}"],
    )
    secret_key: Secret | None = Field(
        default=None, description="The secret of that key.", examples=["${{ env.S3_SECRET_KEY }}"]
    )
    session_token: Secret | None = Field(
        default=None,
        description="What goes with a key that is lent for some time.",
        examples=["${{ env.S3_SESSION_TOKEN }}"],
    )
    allow_private: bool = Field(
        default=False,
        description="Whether its addresses may be of this machine or of a private network. Those by which"
        " clouds give away credentials never may.",
        examples=[True],
    )
    ca_file: ExistingFile | None = Field(
        default=None,
        description="Certificates that are trusted in place of the system's.",
        examples=["/etc/ssl/lab-ca.pem"],
    )

    @model_validator(mode="after")
    def _one_login(self) -> Bucket:
        if (self.access_key is None) != (self.secret_key is None):
            raise wrong("of access_key and secret_key one is missing", "both of them", key="access_key")
        not_in_the_clear(self.endpoint, self.access_key, allow_private=self.allow_private)
        return self
