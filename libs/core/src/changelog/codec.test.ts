import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import type { CrdtState } from '../versioning/crdt/state.ts';
import type { RememberedRequest } from '../versioning/merge.ts';
import type { Epoch, HlcValue, NodeNumber, ShardNumber, Version } from '../versioning/version.ts';
import type { Change, ConflictRecord, RowImage, WriteChange } from './change.ts';
import { eventId, messageKey, PROTOBUF } from './codec.ts';
import type { Commit } from './message.ts';
import { changeCodec, changeProtoFile } from './schema.files.ts';

const codec = changeCodec();
const commit: Commit = {
  origin: 3 as NodeNumber,
  commitTimeMs: 1_750_000_000_123.456,
  commitLsn: 0xab_1234_5678n,
};

const version: Version = {
  rank: -1,
  epoch: 0n as Epoch,
  hlc: (1_750_000_000_000n << 16n) as HlcValue,
  dot: { origin: 3 as NodeNumber, counter: 12 },
  clock: { 3: 12 },
  deleted: false,
  request: null,
  crdt: null,
};

function write(
  columns: readonly { name: string; type: string; isKey?: boolean; value: Buffer | null }[],
  extra: Partial<WriteChange> = {},
): WriteChange {
  const table = {
    collection: 'docs',
    columns: columns.map(({ name, type, isKey = false }) => ({ name, type, isKey })),
  };
  return {
    kind: 'write',
    collection: 'docs',
    key: ['a'],
    shard: 7 as ShardNumber,
    version,
    row: { table, values: columns.map(({ value }) => value) },
    seen: null,
    losers: [],
    requests: [],
    ...extra,
  };
}

function roundTrip(change: Change): Change {
  const { value, headers } = codec.encode(change, commit, 'eu');
  const decoded = codec.decode(value, headers['content-type']);
  expect({ ...decoded, change: null }).toEqual({
    change: null,
    origin: 3,
    originName: 'eu',
    commitTimeMs: commit.commitTimeMs,
    commitLsn: commit.commitLsn,
  });
  return decoded.change;
}

const column = (type: string, value: Buffer | null): Buffer | null => {
  const change = roundTrip(write([{ name: 'c', type, value }])) as WriteChange;
  return change.row!.values[0]!;
};

// --- arbitraries ---

const bytes = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((found) => Buffer.from(found));
const anyBytes = fc.uint8Array({ maxLength: 60 }).map((found) => Buffer.from(found));
const concat = (...parts: Buffer[]): Buffer => Buffer.concat(parts);
const uint16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
const uint32 = (value: number): Buffer => concat(uint16(value >>> 16), uint16(value & 0xffff));

const dense = (elementBytes: number) =>
  fc
    .integer({ min: 0, max: 40 })
    .chain((dimension) =>
      bytes(dimension * elementBytes).map((values) => concat(uint16(dimension), uint16(0), values)),
    );
const sparse = fc
  .integer({ min: 0, max: 20 })
  .chain((count) => fc.tuple(fc.nat(), fc.constant(count), bytes(count * 4), bytes(count * 4)))
  .map(([dimension, count, indices, values]) =>
    concat(uint32(dimension), uint32(count), uint32(0), indices, values),
  );
const bitString = fc
  .integer({ min: 0, max: 70 })
  .chain((length) => bytes(Math.ceil(length / 8)).map((data) => concat(uint32(length), data)));
const text = fc.string({ unit: 'binary' }).map((found) => Buffer.from(found, 'utf8'));

/** Well-formed values of each type. Every type is also tried with bytes that mean nothing to it. */
const wellFormed: Record<string, fc.Arbitrary<Buffer>> = {
  text,
  varchar: text,
  bpchar: text,
  name: text,
  json: text,
  citext: text,
  jsonb: text.map((found) => concat(Buffer.from([1]), found)),
  uuid: bytes(16),
  bool: fc.boolean().map((found) => Buffer.from([found ? 1 : 0])),
  int2: bytes(2),
  int4: bytes(4),
  int8: bytes(8),
  oid: bytes(4),
  float4: bytes(4),
  float8: bytes(8),
  date: fc.oneof(
    bytes(4),
    fc.integer({ min: -730_485, max: 2_921_939 }).map((days) => uint32(days)),
  ),
  timestamp: bytes(8),
  timestamptz: fc.oneof(
    bytes(8),
    fc.bigInt({ min: -63_082_281_600_000_000n, max: 252_455_615_999_999_999n }).map((micros) => {
      const value = Buffer.alloc(8);
      value.writeBigInt64BE(micros);
      return value;
    }),
  ),
  bytea: anyBytes,
  numeric: anyBytes,
  vector: dense(4),
  halfvec: dense(2),
  sparsevec: sparse,
  bit: bitString,
  varbit: bitString,
};
const typed = fc
  .constantFrom(...Object.keys(wellFormed))
  .chain((type) => fc.tuple(fc.constant(type), fc.oneof(wellFormed[type]!, anyBytes, fc.constant(null))));

const clock = fc.dictionary(fc.integer({ min: 1, max: 32_767 }).map(String), fc.maxSafeNat(), {
  maxKeys: 5,
  noNullPrototype: true,
});
const hlc = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }) as fc.Arbitrary<HlcValue>;
const node = fc.integer({ min: 1, max: 32_767 }) as fc.Arbitrary<NodeNumber>;
const dot = fc.record({ origin: node, counter: fc.maxSafeNat() });
const versions: fc.Arbitrary<Version> = fc.record({
  rank: fc.integer({ min: -32_768, max: 32_767 }),
  epoch: hlc as unknown as fc.Arbitrary<Epoch>,
  hlc,
  dot,
  clock,
  deleted: fc.boolean(),
  request: fc.option(fc.uuid()),
  crdt: fc
    .option(fc.jsonValue({ noUnicodeString: false }).filter((found) => JSON.stringify(found) !== 'null'))
    .map((found) => (found === null ? null : (JSON.parse(JSON.stringify(found)) as CrdtState))),
});
const key = fc.array(fc.string(), { minLength: 1, maxLength: 3 });
const shard = fc.nat({ max: 4095 }) as fc.Arbitrary<ShardNumber>;
const records: fc.Arbitrary<ConflictRecord> = fc.record({
  id: fc.uuid(),
  collection: fc.string(),
  key,
  shard,
  kind: fc.constantFrom(
    'update-update',
    'update-delete',
    'delete-update',
    'delete-delete',
    'insert-insert',
    'returned',
    'replaced',
  ),
  loser: versions,
  row: fc.option(fc.json()),
  winner: fc.record({ dot, hlc }),
  state: fc.constantFrom('open', 'superseded', 'resolved', 'restored'),
  stateHlc: hlc,
  stateOrigin: node,
  decidedBy: fc.string(),
  reason: fc.string(),
});
const rows: fc.Arbitrary<RowImage> = fc
  .array(fc.tuple(fc.string(), typed, fc.boolean()), { maxLength: 6 })
  .map((columns) => ({
    table: { collection: 'docs', columns: columns.map(([name, [type], isKey]) => ({ name, type, isKey })) },
    values: columns.map(([, [, value]]) => value),
  }));
const requests: fc.Arbitrary<RememberedRequest> = fc.record(
  {
    request: fc.uuid(),
    dot: fc.record({ origin: node, counter: fc.maxSafeNat() }),
    hlc: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }) as fc.Arbitrary<HlcValue>,
    clock,
  },
  { requiredKeys: ['request', 'dot', 'hlc'] },
);
const changes: fc.Arbitrary<Change> = fc.oneof(
  fc.record({
    kind: fc.constant('write' as const),
    collection: fc.constant('docs'),
    key,
    shard,
    version: versions,
    row: fc.option(rows),
    seen: fc.option(clock),
    losers: fc.array(records, { maxLength: 2 }),
    requests: fc.array(requests, { maxLength: 2 }),
  }),
  fc.record({ kind: fc.constant('conflict' as const), collection: fc.string(), key, shard, record: records }),
  fc.constant({ kind: 'heartbeat' as const }),
);

describe('the change codec', () => {
  test('gives back every change as it was', () => {
    fc.assert(
      fc.property(changes, (change) => {
        expect(roundTrip(change)).toEqual(change);
      }),
      { numRuns: 1000 },
    );
  });

  test('keeps every value of every type byte for byte, also when it means nothing to the type', () => {
    fc.assert(
      fc.property(typed, ([type, value]) => {
        expect(column(type, value)).toEqual(value);
      }),
      { numRuns: 5000 },
    );
  });

  test.each([
    ['float4', 'negative zero', '80000000'],
    ['float4', 'infinity', '7f800000'],
    ['float4', 'minus infinity', 'ff800000'],
    ['float4', 'NaN', '7fc00000'],
    ['float4', 'a signalling NaN', '7fa00001'],
    ['float4', 'a negative NaN', 'ffc00000'],
    ['float8', 'negative zero', '8000000000000000'],
    ['float8', 'infinity', '7ff0000000000000'],
    ['float8', 'NaN', '7ff8000000000000'],
    ['float8', 'a NaN with a payload', 'fff8000000000001'],
    [
      'vector',
      'NaN, infinity and negative zero',
      '00040000' + '7fc00000' + 'ff800000' + '80000000' + '7fa00001',
    ],
    ['halfvec', 'NaN, infinity and negative zero', '00030000' + '7e00' + 'fc00' + '8000'],
    ['date', 'infinity', '7fffffff'],
    ['date', 'minus infinity', '80000000'],
    ['timestamptz', 'infinity', '7fffffffffffffff'],
    ['timestamptz', 'minus infinity', '8000000000000000'],
    ['timestamptz', 'a microsecond before 2000', 'ffffffffffffffff'],
    ['int8', 'the least', '8000000000000000'],
    ['text', 'the empty text', ''],
    ['text', 'a byte order mark', 'efbbbf61'],
    ['text', 'bytes that are not UTF-8', 'fffe'],
  ])('keeps %s exactly: %s', (type, _, hex) => {
    expect(column(type, Buffer.from(hex, 'hex'))!.toString('hex')).toBe(hex);
  });

  test('keeps a vector of 16,000 dimensions', () => {
    const value = concat(uint16(16_000), uint16(0), Buffer.alloc(64_000, 7));
    expect(column('vector', value)!.equals(value)).toBe(true);
  });

  test('shares one table object among the rows of a table until its columns change', () => {
    const first = roundTrip(write([{ name: 'id', type: 'text', value: Buffer.from('a') }])) as WriteChange;
    const second = roundTrip(write([{ name: 'id', type: 'text', value: Buffer.from('b') }])) as WriteChange;
    const third = roundTrip(write([{ name: 'id', type: 'varchar', value: Buffer.from('b') }])) as WriteChange;
    expect(second.row!.table).toBe(first.row!.table);
    expect(third.row!.table).not.toBe(first.row!.table);
  });

  test('refuses another content type and bytes that are no change', () => {
    const { value } = codec.encode({ kind: 'heartbeat' }, commit, 'eu');
    expect(() => codec.decode(value, 'application/json')).toThrow(/not_supported/);
    expect(() => codec.decode(value, undefined)).toThrow(/not_supported/);
    expect(() => codec.decode(Buffer.from('garbage'), PROTOBUF)).toThrow(/invariant_broken|not_supported/);
    expect(() => codec.decode(Buffer.alloc(0), PROTOBUF)).toThrow(/not_supported/);
  });
});

describe('what a consumer sees', () => {
  const schema = protobuf.parse(readFileSync(changeProtoFile, 'utf8')).root.lookupType('pgquorum.v1.Change');
  const plain = (change: Change) =>
    schema.toObject(schema.decode(codec.encode(change, commit, 'eu').value), {
      longs: String,
      enums: String,
      defaults: false,
    }) as Record<string, never>;

  test('values in forms that can be read without knowing Postgres', () => {
    const change = write([
      { name: 'id', type: 'text', isKey: true, value: Buffer.from('a') },
      { name: 'embedding', type: 'vector', value: Buffer.from('000200003f80000080000000', 'hex') },
      { name: 'metadata', type: 'jsonb', value: Buffer.from('\x01{"a": 1}') },
      { name: 'at', type: 'timestamptz', value: Buffer.from('0000000000000001', 'hex') },
      { name: 'day', type: 'date', value: Buffer.from('00000001', 'hex') },
      { name: 'ref', type: 'uuid', value: Buffer.from('00112233445566778899aabbccddeeff', 'hex') },
      { name: 'big', type: 'int8', value: Buffer.from('7fffffffffffffff', 'hex') },
      { name: 'price', type: 'numeric', value: Buffer.from('0001', 'hex') },
      { name: 'gone', type: 'text', value: null },
    ]);
    expect(plain(change)).toEqual({
      id: '3.12.7c54d359',
      operation: 'OPERATION_UPSERT',
      origin: 'eu',
      originNumber: 3,
      commitTimeUs: '1750000000123456',
      commitLsn: String(0xab_1234_5678n),
      collection: 'docs',
      key: ['a'],
      shard: 7,
      version: {
        rank: -1,
        hlc: String(1_750_000_000_000n << 16n),
        origin: 3,
        counter: '12',
        clock: { counters: { 3: '12' } },
      },
      row: {
        columns: [
          { name: 'id', type: 'text', key: true, value: { text: 'a' } },
          {
            name: 'embedding',
            type: 'vector',
            value: { vector: { dimension: 2, values: Buffer.from('0000803f00000080', 'hex') } },
          },
          { name: 'metadata', type: 'jsonb', value: { text: '{"a": 1}' } },
          { name: 'at', type: 'timestamptz', value: { text: '2000-01-01T00:00:00.000001Z' } },
          { name: 'day', type: 'date', value: { text: '2000-01-02' } },
          { name: 'ref', type: 'uuid', value: { text: '00112233-4455-6677-8899-aabbccddeeff' } },
          { name: 'big', type: 'int8', value: { integer: '9223372036854775807' } },
          { name: 'price', type: 'numeric', value: { binary: Buffer.from('0001', 'hex') } },
          { name: 'gone', type: 'text', value: { null: 'NULL_VALUE' } },
        ],
      },
    });
  });

  test('headers and a key that say what the message is about', () => {
    const change = write([], { key: ['a', 'b'] });
    const { headers, key: found } = codec.encode(change, commit, 'eu');
    expect(headers).toEqual({
      id: eventId(change, commit),
      collection: 'docs',
      op: 'upsert',
      'content-type': 'application/protobuf',
      'commit-time': '2025-06-15T15:06:40.123Z',
      lsn: 'AB/12345678',
    });
    expect(found.toString()).toBe('docs\0["a","b"]');
    expect(
      codec.encode({ ...change, version: { ...version, deleted: true }, row: null }, commit, 'eu').headers[
        'op'
      ],
    ).toBe('delete');
    expect(codec.encode({ kind: 'heartbeat' }, commit, 'eu').headers['op']).toBe('heartbeat');
    expect(messageKey({ kind: 'heartbeat' }).length).toBeGreaterThan(0);
  });

  test('one id per event: the same for repeats, another for another key or write', () => {
    const change = write([]);
    expect(eventId(change, commit)).toBe(
      eventId({ ...change, shard: 9 as ShardNumber }, { ...commit, commitLsn: 1n }),
    );
    expect(eventId(change, commit)).not.toBe(eventId({ ...change, key: ['b'] }, commit));
    expect(eventId(change, commit)).not.toBe(
      eventId({ ...change, version: { ...version, dot: { ...version.dot, counter: 13 } } }, commit),
    );
  });

  test('a key is never mistaken for that of another collection', () => {
    expect(messageKey(write([], { collection: 'ab', key: ['c'] }))).not.toBe(
      messageKey(write([], { collection: 'a', key: ['bc'] })),
    );
  });
});
