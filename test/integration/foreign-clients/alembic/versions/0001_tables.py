import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import HALFVEC, Vector
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "authors",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
    )
    op.create_table(
        "documents",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("author_id", sa.Integer, sa.ForeignKey("authors.id"), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.String), nullable=False),
        sa.Column("metadata", postgresql.JSONB, nullable=False),
        sa.Column("embedding", Vector(3)),
        sa.Column("small", HALFVEC(2)),
        sa.Column("updated_at", sa.DateTime, server_default=sa.func.now(), nullable=False),
    )
    op.create_index("documents_nearest", "documents", ["embedding"], postgresql_using="hnsw", postgresql_ops={"embedding": "vector_l2_ops"})
