"""The tables, as SQLAlchemy knows them. service/migrations makes them; a test holds the two together.

Truth is here, queues are hints (decisions 9). Everything is keyed by digests computed by us; what a source claims is kept
for people and for saving requests, never as a key of facts. Times are seconds since the epoch.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _time(name: str) -> Column[float]:
    return Column(name, Float, nullable=False, server_default=text("0"))


LAYER = Table(
    "layer",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    _text("diff_id"),
    _text("facts_version"),
    _text("coverage"),
    _text("verified"),
    _count("entries"),
    _count("bytes_out"),
    _count("packed_bytes"),
    _time("stored_at"),
    _time("used_at"),
    Index("layer_by_diff_id", "diff_id", "facts_version"),
    Index("layer_by_use", "used_at"),
)
"""Facts of one layer (decisions 2); their sections are in `section`."""

SECTION = Table(
    "section",
    METADATA,
    Column("layer_id", Integer, ForeignKey("layer.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
"""One zstd chunk of a section, passed on undecoded (decisions 6)."""

BLOB = Table(
    "blob",
    METADATA,
    Column("digest", Text, primary_key=True),
    _text("diff_id"),
    _count("bytes_in"),
    _time("used_at"),
)
"""Blob digest to diff ID, both computed by us from the same bytes: the only pass by which a read may be skipped."""

REJECTION = Table(
    "rejection",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("facts_version", Text, primary_key=True),
    _text("code"),
    _text("detail"),
    _time("at"),
)
"""A blob that cannot be analysed, final for its digest and the readers' version."""

IMAGE = Table(
    "image",
    METADATA,
    Column("image_id", Text, primary_key=True),
    _text("platform"),
    Column("config", LargeBinary, nullable=False),
    Column("layers", LargeBinary, nullable=False),
    _time("stored_at"),
)
"""A config and the keys of its layers' facts (msgpack list): all that judging again needs."""

MANIFEST = Table(
    "manifest",
    METADATA,
    Column("digest", Text, primary_key=True),
    _text("image_id"),
    _count("compressed_bytes"),
    Column("layers", LargeBinary, nullable=False),
)
"""Layers as transported (msgpack list of LayerSource). Compressed bytes belong here (decisions 3)."""

REPORT = Table(
    "report",
    METADATA,
    Column("key", Text, primary_key=True),
    _text("image_id"),
    _text("rules_version"),
    _text("state"),
    _text("reason"),
    Column("body", LargeBinary, nullable=False),
    _time("stored_at"),
    _time("used_at"),
    Index("report_by_image", "image_id"),
)
"""One report as JSON, under the key of decisions 3: same key, same bytes."""

FINDING = Table(
    "finding",
    METADATA,
    Column("report_key", Text, ForeignKey("report.key", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    _text("rule"),
    _text("severity"),
    _text("subject"),
    _text("message"),
    Column("layer", Integer),
    Index("finding_by_rule", "rule"),
)
"""The findings of a report once more, for asking across images."""

SIGHTING = Table(
    "sighting",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("source"),
    _text("registry"),
    _text("repository"),
    _text("tag"),
    _text("untagged"),
    _text("platform"),
    _text("digest"),
    _text("manifest_digest"),
    _text("image_id"),
    _count("compressed_bytes"),
    _text("outcome"),
    _text("detail"),
    _text("report_key"),
    _time("first_seen"),
    _time("last_seen"),
    _time("analysed_at"),
    _count("missing"),
    UniqueConstraint("source", "registry", "repository", "tag", "untagged", "platform", name="sighting_name"),
    Index("sighting_by_digest", "source", "digest"),
    Index("sighting_by_image", "image_id"),
    Index("sighting_by_report", "report_key"),
)
"""A name under which a source shows an image of one platform; `untagged` is the digest where there is no tag.

Before its first examination it has one row with an empty platform and the outcome `queued`.
"""

PACKAGE = Table(
    "package",
    METADATA,
    Column("distribution", Text, primary_key=True),
    Column("release", Text, primary_key=True),
    Column("architecture", Text, primary_key=True),
    Column("library", Text, primary_key=True),
    _text("package"),
    _text("image_id"),
)
"""Which package has a library in a release of a distribution, and the image that taught it: for remedies, never for verdicts."""

HISTORY = Table(
    "history",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("source"),
    _text("registry"),
    _text("repository"),
    _text("tag"),
    _text("platform"),
    _text("manifest_digest"),
    _text("image_id"),
    _text("report_key"),
    _text("state"),
    _text("reason"),
    _text("message"),
    _text("rules"),
    _count("size_bytes"),
    _count("compressed_bytes"),
    _time("at"),
    Index("history_by_name", "repository", "tag", "platform", "source", "registry", "id"),
)
"""What a tag showed, a row whenever its image or its verdict changed; `rules` are those of fatal and later findings."""

BUILD = Table(
    "build",
    METADATA,
    Column("digest", Text, primary_key=True),
    _text("ref"),
    _text("frontend"),
    _text("source"),
    _time("completed_at"),
    Index("build_by_time", "completed_at"),
)
"""The last build that made an image; `digest` is that of its index, its manifest or (Docker's graphdrivers) its config."""

JOB = Table(
    "job",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="queued"),
    _count("tries"),
    _count("deaths"),
    _time("lease_until"),
    _count("fence"),
    _count("priority"),
    _count("again"),
    Column("payload", LargeBinary, nullable=False),
    _time("run_at"),
    _time("submitted_at"),
    _time("updated_at"),
    _text("error"),
    UniqueConstraint("kind", "key", name="job_name"),
    Index("job_by_turn", "state", "priority", "run_at"),
)
"""Work to do (decisions 9). A finished job has no row; a poisoned one stays, as the reason for its stored outcome."""

DELIVERY = Table(
    "delivery",
    METADATA,
    Column("hook", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    _time("at"),
    Index("delivery_by_time", "at"),
)
"""What hooks were told already, by the sender's own name for it: the same again is dropped (hostile 129)."""
