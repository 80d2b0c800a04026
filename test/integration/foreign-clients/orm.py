"""An application on SQLAlchemy with migrations by Alembic. It knows nothing of pgquorum."""

import os
import uuid
from datetime import datetime

from alembic import command
from alembic.config import Config
from pgvector.sqlalchemy import HALFVEC, Vector
from sqlalchemy import ForeignKey, String, create_engine, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    documents: Mapped[list["Document"]] = relationship(back_populates="author")


class Document(Base):
    __tablename__ = "documents"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    title: Mapped[str]
    tags: Mapped[list[str]] = mapped_column(ARRAY(String))
    meta: Mapped[dict] = mapped_column("metadata", JSONB)
    embedding = mapped_column(Vector(3))
    small = mapped_column(HALFVEC(2))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    author: Mapped[Author] = relationship(back_populates="documents")


def migrate(url: str, revision: str) -> dict:
    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(__file__), "alembic"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, revision)
    return {"revision": revision}


def work(url: str, turn: int) -> dict:
    with Session(create_engine(url)) as session:
        return write(session, turn)


def read(url: str) -> dict:
    with Session(create_engine(url)) as session:
        return show(session)


def write(session: Session, turn: int) -> dict:
    author = Author(name=f"author {turn}")
    author.documents = [
        Document(
            id=uuid.uuid5(uuid.NAMESPACE_URL, f"{turn}/{at}"),
            title=f"title {at}",
            tags=["a", f"turn {turn}"],
            meta={"at": at, "nested": {"ä": [1, None]}},
            embedding=[at, turn, 1],
            small=[at, 0.5],
        )
        for at in range(40)
    ]
    session.add(author)
    session.commit()
    for document in session.scalars(select(Document).where(Document.title.like("%5"))):
        document.title += "!"
        document.meta = {**document.meta, "edited": turn}
    for document in session.scalars(select(Document).where(Document.title == "title 7")):
        session.delete(document)
    session.commit()
    # A bulk upsert, half of it over rows that are there.
    rows = [
        {
            "id": uuid.uuid5(uuid.NAMESPACE_URL, f"{turn}/{at}"),
            "author_id": author.id,
            "title": f"upserted {at}",
            "tags": [],
            "metadata": {},
        }
        for at in range(30, 50)
    ]
    statement = upsert(Document.__table__).values(rows)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"title": statement.excluded.title}))
    session.commit()
    # What is rolled back was never there.
    session.add(Author(name="nobody"))
    session.flush()
    session.rollback()
    return show(session)


def show(session: Session) -> dict:
    authors = session.scalars(select(Author).options(selectinload(Author.documents)).order_by(Author.id)).all()
    nearest = session.scalars(
        select(Document.title).where(Document.embedding.is_not(None)).order_by(Document.embedding.l2_distance([3, 1, 1]), Document.id).limit(5)
    ).all()
    return {"authors": [[one.name, len(one.documents)] for one in authors], "nearest": list(nearest)}
