/** The client: `import { PgquorumClient } from 'pgquorum/client'`. It needs `fetch` and nothing of the server, in Node and in browsers. */
export { PgquorumClient, type ClientOptions, type Readiness } from './client.ts';
export type { Embedding, EmbeddingInput, SparseEmbedding } from './embedding.ts';
export { PgquorumError, type LocalCode, type Problem } from './error.ts';
export type * from './operating-types.ts';
export type { IfMatch, WaitOptions } from './operating.ts';
export type { StreamOptions } from './server-events.ts';
export type { CallOptions } from './transport.ts';
export type * from './types.ts';
export type { GetOptions, ReadOptions, WriteOptions } from './vectors.ts';
