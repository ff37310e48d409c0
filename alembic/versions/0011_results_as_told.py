"""Results keep the order of their keys: a form is made from a definition as the robot tells it."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("ALTER TABLE commands ALTER result TYPE json")
