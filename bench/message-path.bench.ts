/**
 * What a row costs in our own code on its way through Kafka, without Postgres, Kafka and sockets: from the messages of the WAL to a stamped batch, and from the
 * batch to changes. For rows of 768 dimensions and of 200 bytes; each transaction has a hundred rows and their versions.
 *
 *     node dist/bench/message-path.bench.js
 */
import { BackwardBytes } from '#core/changelog/backward-bytes.ts';
import type { ColumnImage, DataChange } from '#core/changelog/change.ts';
import { logBatches, contentTypeHeader } from '#core/changelog/fetched.ts';
import type { Commit } from '#core/changelog/message.ts';
import { readBatches, readRecords, stampBatch, writeBatchHeader, writeRecords } from '#core/changelog/record-batch.ts'; // prettier-ignore
import { changeCodec } from '#core/changelog/schema.files.ts';
import { TransactionJoin, type RelationRole } from '#core/capture/join.ts';
import { parsePgoutput } from '#core/capture/pgoutput.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import { median, rounds, say, show, size, title, whole } from './setup/figures.ts';
import { rowId, smallRows, wideRows, type RowShape } from './setup/rows.ts';

const rows = size('ROWS', 40_000);
const perTransaction = 100;
const codec = changeCodec();
const commit: Commit = { origin: 1 as NodeNumber, commitTimeMs: 1_700_000_000_123.456, commitLsn: 0x1_2345_6789n }; // prettier-ignore

type Column = readonly [name: string, type: string, isKey: boolean];
const columnsOf = (columns: readonly Column[]): ColumnImage[] =>
  columns.map(([name, type, isKey]) => ({ name, type, isKey }));
const rowColumns = columnsOf([
  ['id', 'text', true],
  ['embedding', 'vector', false],
  ['metadata', 'jsonb', false],
]);
const versionColumns = columnsOf([
  ['id', 'text', true],
  ['shard', 'int4', false],
  ['rank', 'int2', false],
  ['epoch', 'int8', false],
  ['hlc', 'int8', false],
  ['origin', 'int2', false],
  ['counter', 'int8', false],
  ['clock', 'jsonb', false],
  ['seen', 'jsonb', false],
  ['deleted', 'bool', false],
  ['applied', 'bool', false],
  ['request', 'uuid', false],
  ['crdt', 'jsonb', false],
]);
const rowsRole: RelationRole = { kind: 'rows', table: { collection: 'docs', columns: rowColumns }, keyAt: [0] }; // prettier-ignore
const versionsRole: RelationRole = {
  kind: 'versions',
  collection: 'docs',
  table: { collection: 'docs', columns: versionColumns },
  keyAt: [0],
  at: Object.fromEntries(versionColumns.map(({ name }, at) => [name, at])),
};
const roles = new Map<number, RelationRole>([
  [1, rowsRole],
  [2, versionsRole],
]);

/** An insert as pgoutput says it. */
function insert(relation: number, values: readonly (Buffer | null)[]): Buffer {
  const head = Buffer.alloc(8);
  head[0] = 0x49;
  head.writeUInt32BE(relation, 1);
  head[5] = 0x4e;
  head.writeUInt16BE(values.length, 6);
  const parts = values.map((value) => {
    if (value === null) return Buffer.from([0x6e]);
    const part = Buffer.alloc(5);
    part[0] = 0x62;
    part.writeUInt32BE(value.length, 1);
    return Buffer.concat([part, value]);
  });
  return Buffer.concat([head, ...parts]);
}

const int = (bytes: 2 | 4 | 8, value: number): Buffer => {
  const buffer = Buffer.alloc(bytes);
  if (bytes === 8) buffer.writeBigInt64BE(BigInt(value));
  else buffer.writeIntBE(value, 0, bytes);
  return buffer;
};
const jsonb = (text: string): Buffer => Buffer.from(`\x01${text}`);

function messagesOf(shape: RowShape): Buffer[][] {
  const transactions: Buffer[][] = [];
  for (let at = 0; at < rows; at += 1) {
    if (at % perTransaction === 0) transactions.push([]);
    const id = Buffer.from(rowId('row', at));
    const vector = Buffer.alloc(4 + 4 * shape.dimension, at % 251);
    vector.writeUInt16BE(shape.dimension, 0);
    vector.writeUInt16BE(0, 2);
    const metadata = jsonb(JSON.stringify({ source: 'x'.repeat(Math.max(0, shape.metadataBytes - 13)) }));
    const version = [id, int(4, at % 64), int(2, 0), int(8, 0), int(8, 2 ** 50 + at), int(2, 1), int(8, at + 1), jsonb(`{"1": ${at + 1}}`), null, int(2, 0).subarray(1), int(2, 0).subarray(1), null, null]; // prettier-ignore
    transactions.at(-1)!.push(insert(1, [id, vector, metadata]), insert(2, version));
  }
  // As the WAL has them: first the rows of the statement, then their versions.
  return transactions.map((messages) => [
    ...messages.filter((_, at) => at % 2 === 0),
    ...messages.filter((_, at) => at % 2 === 1),
  ]);
}

function joined(messages: readonly Buffer[]): DataChange[] {
  const join = new TransactionJoin({ bytesMax: 2 ** 26, chunkKeys: 1000 });
  for (const bytes of messages) {
    const message = parsePgoutput(bytes);
    if (message.kind === 'row') join.add(roles.get(message.relationId)!, message.tuple);
  }
  return join.take().changes;
}

function encoded(changes: readonly DataChange[], bytes: BackwardBytes): Buffer {
  bytes.rewind();
  const count = changes.length;
  writeRecords(bytes, count, (at) => codec.record(changes[at]!, commit, 'n1'));
  writeBatchHeader(bytes, { count, recordBytes: bytes.length, timeMs: 0, codec: 'none' });
  const batch = bytes.view();
  stampBatch(batch, { producerId: 1n, epoch: 0, sequence: 0 });
  return batch;
}

let decodedRows = 0;
function decoded(batch: Buffer): void {
  for (const one of readBatches(batch))
    for (const part of logBatches(readRecords(one, contentTypeHeader), { stream: 0, codec }))
      decodedRows += part.changes.length;
}

/** Microseconds of processor time a row; the clock would count what else the machine does. */
function cost(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / rows;
}

for (const [name, shape] of [
  ['768 dimensions', wideRows],
  ['200 bytes', smallRows],
] as const) {
  // prettier-ignore
  title(`rows of ${name}: us of processor a row`);
  const transactions = messagesOf(shape);
  const bytes = new BackwardBytes(1024 * 1024);
  const found: { join: number; encode: number; decode: number }[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    const changes: DataChange[][] = [];
    let batch: Buffer = Buffer.alloc(0);
    const join = cost(() => transactions.forEach((messages) => changes.push(joined(messages))));
    const encode = cost(() => changes.forEach((some) => (batch = encoded(some, bytes))));
    const one = Buffer.from(batch);
    const decode = cost(() => transactions.forEach(() => decoded(one)));
    // The first is the compiler's.
    if (round > 0) found.push({ join, encode, decode });
  }
  const of = (what: 'join' | 'encode' | 'decode') => median(found.map((one) => one[what]));
  say(`  WAL to changes ${of('join').toFixed(2)}, to a batch ${of('encode').toFixed(2)}`);
  show({ name: 'fed', value: `${(of('join') + of('encode')).toFixed(2)} us a row` });
  show({ name: 'read', value: `${of('decode').toFixed(2)} us a row` });
}
if (decodedRows === 0) throw new Error('nothing was decoded');
say(`\n${whole(decodedRows)} rows were decoded`);
