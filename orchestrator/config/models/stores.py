"""Buckets that results are uploaded to."""

from __future__ import annotations

from pydantic import Field, model_validator

from orchestrator.config.models.dataset import S3Address, S3Login, not_in_the_clear


class Bucket(S3Login):
    """A bucket in S3, or in what speaks its language."""

    s3: S3Address = Field(
        description="The bucket, and what the objects' names begin with.", examples=["s3://models/ci"]
    )
    allow_private: bool = Field(
        default=False,
        description="Whether its addresses may be of this machine or of a private network. Those by which"
        " clouds give away credentials never may.",
        examples=[True],
    )

    @model_validator(mode="after")
    def _nothing_in_the_clear(self) -> Bucket:
        not_in_the_clear(self.endpoint, self.access_key, allow_private=self.allow_private)
        return self
