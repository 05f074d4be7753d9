"""The first tables.

Revision 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blob",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("diff_id", sa.Text(), server_default="", nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("used_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "image",
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), server_default="", nullable=False),
        sa.Column("config", sa.LargeBinary(), nullable=False),
        sa.Column("layers", sa.LargeBinary(), nullable=False),
        sa.Column("stored_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("image_id"),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("tries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("deaths", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("priority", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("again", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("run_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("submitted_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "key", name="job_name"),
    )
    op.create_index("job_by_turn", "job", ["state", "priority", "run_at"], unique=False)
    op.create_table(
        "layer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("diff_id", sa.Text(), server_default="", nullable=False),
        sa.Column("facts_version", sa.Text(), server_default="", nullable=False),
        sa.Column("coverage", sa.Text(), server_default="", nullable=False),
        sa.Column("verified", sa.Text(), server_default="", nullable=False),
        sa.Column("entries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("packed_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stored_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("used_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("layer_by_diff_id", "layer", ["diff_id", "facts_version"], unique=False)
    op.create_index("layer_by_use", "layer", ["used_at"], unique=False)
    op.create_table(
        "manifest",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), server_default="", nullable=False),
        sa.Column("compressed_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("layers", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "rejection",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("facts_version", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("digest", "facts_version"),
    )
    op.create_table(
        "report",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), server_default="", nullable=False),
        sa.Column("rules_version", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("stored_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("used_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("report_by_image", "report", ["image_id"], unique=False)
    op.create_table(
        "sighting",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("registry", sa.Text(), server_default="", nullable=False),
        sa.Column("repository", sa.Text(), server_default="", nullable=False),
        sa.Column("tag", sa.Text(), server_default="", nullable=False),
        sa.Column("untagged", sa.Text(), server_default="", nullable=False),
        sa.Column("platform", sa.Text(), server_default="", nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("manifest_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("image_id", sa.Text(), server_default="", nullable=False),
        sa.Column("compressed_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("report_key", sa.Text(), server_default="", nullable=False),
        sa.Column("first_seen", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_seen", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("analysed_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("missing", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", "registry", "repository", "tag", "untagged", "platform", name="sighting_name"),
    )
    op.create_index("sighting_by_digest", "sighting", ["source", "digest"], unique=False)
    op.create_index("sighting_by_image", "sighting", ["image_id"], unique=False)
    op.create_index("sighting_by_report", "sighting", ["report_key"], unique=False)
    op.create_table(
        "finding",
        sa.Column("report_key", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("rule", sa.Text(), server_default="", nullable=False),
        sa.Column("severity", sa.Text(), server_default="", nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("layer", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["report_key"], ["report.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("report_key", "seq"),
    )
    op.create_index("finding_by_rule", "finding", ["rule"], unique=False)
    op.create_table(
        "section",
        sa.Column("layer_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["layer_id"], ["layer.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("layer_id", "name", "seq"),
    )
