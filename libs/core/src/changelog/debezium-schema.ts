/** The schemas of Debezium's messages, as Kafka Connect's JsonConverter reads them. Pure. */
import type { ColumnImage, TableImage } from './change.ts';

interface Schema {
  readonly type: string;
  readonly name?: string;
  readonly items?: Schema;
  readonly optional?: boolean;
}

const integers: Readonly<Record<string, Schema>> = {
  int2: { type: 'int16' },
  int4: { type: 'int32' },
  int8: { type: 'int64' },
  oid: { type: 'int64' },
  date: { type: 'int32', name: 'io.debezium.time.Date' },
  timestamp: { type: 'int64', name: 'io.debezium.time.MicroTimestamp' },
};

const others: Readonly<Record<string, Schema>> = {
  float4: { type: 'float' },
  float8: { type: 'double' },
  bool: { type: 'boolean' },
  timestamptz: { type: 'string', name: 'io.debezium.time.ZonedTimestamp' },
  json: { type: 'string', name: 'io.debezium.data.Json' },
  jsonb: { type: 'string', name: 'io.debezium.data.Json' },
  uuid: { type: 'string', name: 'io.debezium.data.Uuid' },
  vector: {
    type: 'array',
    name: 'io.debezium.data.DoubleVector',
    items: { type: 'double', optional: false },
  },
  halfvec: { type: 'array', name: 'io.debezium.data.FloatVector', items: { type: 'float', optional: false } },
};

const asText = new Set([
  'text',
  'varchar',
  'bpchar',
  'name',
  'citext',
  'numeric',
  'sparsevec',
  'bit',
  'varbit',
]);

/** A type that is not known comes in Postgres's binary format. */
const schemaOf = (type: string): Schema =>
  integers[type] ?? others[type] ?? (asText.has(type) ? { type: 'string' } : { type: 'bytes' });

const fieldOf = ({ name, type, isKey }: ColumnImage): object => ({
  ...schemaOf(type),
  optional: !isKey,
  field: name,
});

export const keySchema = ({ columns }: TableImage, name: string): object => ({
  type: 'struct',
  fields: columns.filter(({ isKey }) => isKey).map(fieldOf),
  optional: false,
  name: `${name}.Key`,
});

const field = (name: string, type: string, optional = false): object => ({ type, optional, field: name });

const sourceFields = [
  field('version', 'string'),
  field('connector', 'string'),
  field('name', 'string'),
  field('ts_ms', 'int64'),
  { ...field('snapshot', 'string', true), default: 'false' },
  field('db', 'string'),
  field('schema', 'string'),
  field('table', 'string'),
  field('lsn', 'int64', true),
  field('id', 'string'),
  field('key', 'string'),
  field('shard', 'int32'),
  field('origin', 'string'),
  field('rank', 'int32'),
  field('epoch', 'int64'),
  field('hlc', 'int64'),
  field('origin_number', 'int32'),
  field('counter', 'int64'),
];

/** A name that ends in `.Envelope` is what Debezium's transforms know such a message by. */
export function envelopeSchema({ columns }: TableImage, name: string): object {
  const row = { type: 'struct', fields: columns.map(fieldOf), optional: true, name: `${name}.Value` };
  const transaction = ['id', 'total_order', 'data_collection_order'].map((one, at) =>
    field(one, at === 0 ? 'string' : 'int64'),
  );
  return {
    type: 'struct',
    fields: [
      { ...row, field: 'before' },
      { ...row, field: 'after' },
      { type: 'struct', fields: sourceFields, optional: false, name: `${name}.Source`, field: 'source' },
      {
        type: 'struct',
        fields: transaction,
        optional: true,
        name: 'event.block',
        version: 1,
        field: 'transaction',
      },
      field('op', 'string'),
      field('ts_ms', 'int64', true),
    ],
    optional: false,
    name: `${name}.Envelope`,
    version: 2,
  };
}
