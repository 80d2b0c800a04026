import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("documents", sa.Column("rating", sa.Numeric(3, 1), server_default="2.5"))
    op.create_index("documents_by_author", "documents", ["author_id"])
