"""A vector store of LangChain in front of pgvector. It knows nothing of pgquorum."""

import uuid

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_postgres import PGEngine, PGVectorStore

size = 8
table = "notes"


def make(url: str) -> dict:
    PGEngine.from_connection_string(url=url).init_vectorstore_table(table_name=table, vector_size=size)
    return {}


def opened(url: str) -> PGVectorStore:
    engine = PGEngine.from_connection_string(url=url)
    return PGVectorStore.create_sync(engine=engine, table_name=table, embedding_service=DeterministicFakeEmbedding(size=size))


def identity(turn: int, at: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{turn}/{at}"))


def work(url: str, turn: int) -> list:
    store = opened(url)
    documents = [Document(page_content=f"note {turn} {at}", metadata={"turn": turn, "at": at}) for at in range(30)]
    store.add_documents(documents, ids=[identity(turn, at) for at in range(30)])
    store.add_documents([Document(page_content="replaced", metadata={"turn": turn})], ids=[identity(turn, 3)])
    store.delete([identity(turn, at) for at in (5, 6)])
    return search(url)


def search(url: str) -> list:
    found = opened(url).similarity_search_with_score("note 1 9", k=5)
    return [[document.page_content, document.metadata, round(score, 6)] for document, score in found]
