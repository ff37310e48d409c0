"""Whether a command may have reached its device already, so that it cannot be taken back any more."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE commands ADD handed_over_at timestamptz")
    op.execute("UPDATE commands SET handed_over_at = published_at")
