/** Embeddings on their way: single-precision numbers go as base64, which is a third of their size as JSON and exact. */

export interface SparseEmbedding {
  readonly indices: readonly number[];
  readonly values: readonly number[];
  readonly dimension?: number;
}

/** Numbers, a sparse vector, or a text of 0 and 1, as the collection's type has it. */
export type EmbeddingInput = readonly number[] | Float32Array | SparseEmbedding | string;
/** Dense ones are `Float32Array` when the client was made with `float32: true`, and `number[]` otherwise. */
export type Embedding = number[] | Float32Array | SparseEmbedding | string;

const chunk = 0x2000;

function base64(floats: Float32Array): string {
  const bytes = new Uint8Array(floats.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [at, float] of floats.entries()) view.setFloat32(at * 4, float, true);
  let text = '';
  for (let at = 0; at < bytes.length; at += chunk)
    text += String.fromCharCode(...bytes.subarray(at, at + chunk));
  return btoa(text);
}

/** As the gateway takes it. */
export const sentEmbedding = (embedding: EmbeddingInput | null): unknown =>
  embedding instanceof Float32Array ? { base64: base64(embedding) } : embedding;

/** As the caller wants it. */
export const givenEmbedding = (embedding: unknown, float32: boolean): unknown =>
  float32 && Array.isArray(embedding) ? Float32Array.from(embedding as number[]) : embedding;
