"""Which package has a library, as the fleet's images teach it.

Revision 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "package",
        sa.Column("distribution", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("library", sa.Text(), nullable=False),
        sa.Column("package", sa.Text(), server_default="", nullable=False),
        sa.Column("image_id", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("distribution", "release", "architecture", "library"),
    )
