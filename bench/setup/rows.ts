/** Rows to write: every vector distinct (pgvector keeps equal ones as one node of an HNSW index), all values in binary. */
import type pg from 'pg';
import { arrayOf, jsonbArray, textArray } from '#core/postgres/binary-array.ts';

export const dimension = 768;

export interface RowShape {
  readonly dimension: number;
  /** Least length of the metadata's text. */
  readonly metadataBytes: number;
}
export const wideRows: RowShape = { dimension, metadataBytes: 0 };
/** 200 bytes of values: a key of 16, a vector of 16, metadata of 168. */
export const smallRows: RowShape = { dimension: 3, metadataBytes: 168 };

/** Parameters of one upsert of many rows. */
export type Batch = readonly [ids: Buffer, embeddings: Buffer, metadata: Buffer];

/** A small generator of floats in [-1, 1): a period of 2^32 gives millions of vectors none of which is another. */
class Floats {
  #state: number;
  readonly #dimension: number;

  constructor(seed: number, dimension: number) {
    this.#state = seed | 1;
    this.#dimension = dimension;
  }

  vector(): Buffer {
    const dimension = this.#dimension;
    const floats = new Float32Array(dimension);
    let state = this.#state;
    for (let at = 0; at < dimension; at += 1) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      floats[at] = state / 0x8000_0000;
    }
    this.#state = state;
    const value = Buffer.allocUnsafe(4 + dimension * 4);
    value.writeUInt16BE(dimension, 0);
    value.writeUInt16BE(0, 2);
    Buffer.from(floats.buffer).swap32().copy(value, 4);
    return value;
  }
}

export class RowSource {
  readonly #floats: Floats;
  readonly #vectorOid: number;
  readonly #metadataBytes: number;

  private constructor(vectorOid: number, seed: number, shape: RowShape) {
    this.#vectorOid = vectorOid;
    this.#floats = new Floats(seed, shape.dimension);
    this.#metadataBytes = shape.metadataBytes;
  }

  static async of(client: pg.Client, shape = wideRows, seed = Date.now()): Promise<RowSource> {
    const found = await client.query<{ oid: string }>(`select 'public.vector'::regtype::oid::text as oid`);
    return new RowSource(Number(found.rows[0]!.oid), seed, shape);
  }

  vector(): Buffer {
    return this.#floats.vector();
  }

  batch(ids: readonly string[]): Batch {
    const vectors = ids.map(() => this.#floats.vector());
    return [
      textArray(ids),
      arrayOf(this.#vectorOid, vectors),
      jsonbArray(ids.map((id) => this.#metadata(id))),
    ];
  }

  #metadata(id: string): string {
    const shortest = JSON.stringify({ source: id });
    if (shortest.length >= this.#metadataBytes) return shortest;
    const filler = this.#metadataBytes - JSON.stringify({ source: id, text: '' }).length;
    return JSON.stringify({
      source: id,
      text: id.repeat(filler / id.length + 1).slice(0, Math.max(0, filler)),
    });
  }

  /** Lazily, so that a large number of rows is never held at once. */
  *batches(prefix: string, count: number, size: number): Generator<Batch> {
    for (let at = 0; at < count; at += size) {
      yield this.batch(
        Array.from({ length: Math.min(size, count - at) }, (_, row) => rowId(prefix, at + row)),
      );
    }
  }
}

export const rowId = (prefix: string, at: number): string => `${prefix}-${String(at).padStart(8, '0')}`;

const conflict =
  'on conflict (id) do update set embedding = excluded.embedding, metadata = excluded.metadata';

export function upsertMany(client: pg.Client, table: string, batch: Batch): Promise<unknown> {
  return client.query({
    name: `many ${table}`,
    text: `insert into public.${table} (id, embedding, metadata) select u.id, u.embedding, u.metadata from unnest($1::text[], $2::public.vector[], $3::jsonb[]) u(id, embedding, metadata) ${conflict}`,
    values: [...batch],
  });
}

export function upsertOne(client: pg.Client, table: string, id: string, vector: Buffer): Promise<unknown> {
  return client.query({
    name: `one ${table}`,
    text: `insert into public.${table} (id, embedding, metadata) values ($1, $2::public.vector, '{"source": "bench"}') ${conflict}`,
    values: [id, vector],
  });
}
