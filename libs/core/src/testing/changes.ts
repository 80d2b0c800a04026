/** Changes and commits of any content, for properties of what carries them. */
import fc from 'fast-check';
import type { WriteChange } from '../changelog/change.ts';
import type { Epoch, HlcValue, NodeNumber, ShardNumber } from '../versioning/version.ts';

const bytes = (options: { minLength?: number; maxLength: number }) =>
  fc.uint8Array(options).map((found) => Buffer.from(found));
const text = fc.oneof(fc.string({ maxLength: 60 }), fc.string({ unit: 'grapheme', maxLength: 30 }));
const vector = fc.nat({ max: 70 }).chain((dimension) =>
  bytes({ minLength: dimension * 4, maxLength: dimension * 4 }).map((values) => {
    const head = Buffer.alloc(4);
    head.writeUInt16BE(dimension);
    return Buffer.concat([head, values]);
  }),
);
/** As the type has it, or bytes that mean nothing to it. */
const value = fc.oneof(
  fc.constant(null),
  vector,
  text.map((found) => Buffer.from(found)),
  text.map((found) => Buffer.from(`\x01${found}`)),
  bytes({ maxLength: 12 }),
);
const types = ['text', 'varchar', 'json', 'jsonb', 'vector', 'halfvec', 'int4', 'uuid', 'bytea', 'numeric'];
const columns = fc.array(
  fc.record({ name: text, type: fc.constantFrom(...types), isKey: fc.boolean(), value }),
  { maxLength: 5 },
);
const signed64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const clock = fc.dictionary(fc.nat({ max: 32_767 }).map(String), fc.maxSafeNat(), { maxKeys: 4 });

/** Writes of one key, as the WAL brings them. */
export const writeChanges = fc
  .record({
    columns: fc.option(columns),
    collection: text,
    key: fc.array(text, { maxLength: 3 }),
    shard: fc.nat(),
    rank: fc.integer({ min: -32_768, max: 32_767 }),
    epoch: fc.oneof(fc.constant(0n), signed64),
    hlc: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 2n ** 40n }), signed64),
    origin: fc.nat({ max: 32_767 }),
    counter: fc.maxSafeNat(),
    clock,
    deleted: fc.boolean(),
    request: fc.option(fc.uuid()),
    crdt: fc.constantFrom(null, { views: { kind: 'counter' } }),
  })
  .map(({ columns: found, ...one }): WriteChange => ({
    kind: 'write',
    collection: one.collection,
    key: one.key,
    shard: one.shard as ShardNumber,
    version: {
      rank: one.rank,
      epoch: one.epoch as Epoch,
      hlc: one.hlc as HlcValue,
      dot: { origin: one.origin as NodeNumber, counter: one.counter },
      clock: one.clock,
      deleted: one.deleted,
      request: one.request,
      crdt: one.crdt as unknown as WriteChange['version']['crdt'],
    },
    row:
      found === null
        ? null
        : {
            table: {
              collection: one.collection,
              columns: found.map(({ name, type, isKey }) => ({ name, type, isKey })),
            },
            values: found.map((column) => column.value),
          },
    seen: null,
    losers: [],
    requests: [],
  }));
export const commits = fc.record({
  origin: fc.nat({ max: 32_767 }).map((number) => number as NodeNumber),
  commitTimeMs: fc.nat({ max: 2_000_000_000 }).map((seconds) => seconds * 1000 + 0.25),
  commitLsn: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
});
