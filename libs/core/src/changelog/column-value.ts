/**
 * One value of a row between Postgres's binary format and the forms of `pgquorum.v1.ColumnValue`, which consumers can read. Pure.
 *
 * Invariant: `toBinary(type, toForm(type, value))` is `value`, byte for byte. So a form is only chosen where it carries the value exactly;
 * everything else (other types, odd NaNs, text that is not UTF-8, dates beyond the year 9999) travels as `binary`.
 */
import { isUtf8 } from 'node:buffer';
import { SwappedElements } from './backward-bytes.ts';

/** A 64-bit integer as protobufjs takes and gives it. */
export interface Int64 {
  readonly low: number;
  readonly high: number;
  readonly unsigned: boolean;
}

/** Little-endian when they were read; still in Postgres's order, and swapped by the writer, when they are to be written. */
type Elements = Uint8Array | SwappedElements;

/** UTF-8 as bytes where nobody looks into it: neither is it decoded before it is sent, nor after it has come. */
type Text = string | Uint8Array;

/** The message `ColumnValue`: exactly one of these is present. */
export interface ValueForm {
  null?: 0;
  text?: Text;
  binary?: Uint8Array;
  integer?: Int64 | number;
  number?: number;
  boolean?: boolean;
  vector?: { dimension?: number; values?: Elements };
  halfvec?: { dimension?: number; values?: Elements };
  sparsevec?: { dimension?: number; indices?: number[]; values?: Uint8Array };
  bits?: { length?: number; data?: Uint8Array };
}

interface TypeForm<K extends keyof ValueForm> {
  readonly kind: K;
  /** Null where the form would not carry the value exactly. */
  to(value: Buffer): ValueForm[K] | null;
  /** Gets what `to` made. */
  from(found: NonNullable<ValueForm[K]>): Buffer;
}

export function toForm(type: string, value: Buffer | null): ValueForm {
  if (value === null) return { null: 0 };
  const typeForm = typeForms.get(type);
  const found = typeForm?.to(value) ?? null;
  return typeForm === undefined || found === null ? { binary: value } : { [typeForm.kind]: found };
}

/** Undefined when the form does not belong to the type: the message was not made by a pgquorum that knows both. */
export function toBinary(type: string, form: ValueForm): Buffer | null | undefined {
  if (has(form, 'binary')) return asBuffer(form.binary!);
  if (has(form, 'null')) return null;
  const typeForm = typeForms.get(type);
  if (typeForm === undefined || !has(form, typeForm.kind)) return undefined;
  return typeForm.from(form[typeForm.kind] as never);
}

/** protobufjs puts defaults on the prototype: only own properties are present. */
const has = (form: ValueForm, kind: keyof ValueForm): boolean =>
  Object.prototype.hasOwnProperty.call(form, kind);

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const noBytes = Buffer.alloc(0);

const stringOf = (text: Text): string => (typeof text === 'string' ? text : asBuffer(text).toString('utf8'));

// --- text ---

const plainText: TypeForm<'text'> = {
  kind: 'text',
  to: (value) => (isUtf8(value) ? value : null),
  from: (text) => (typeof text === 'string' ? Buffer.from(text, 'utf8') : asBuffer(text)),
};

const JSONB_VERSION = 1;
const jsonb: TypeForm<'text'> = {
  kind: 'text',
  to(value) {
    if (value[0] !== JSONB_VERSION) return null;
    const text = value.subarray(1);
    return isUtf8(text) ? text : null;
  },
  from(text) {
    const bytes = plainText.from(text);
    const value = Buffer.allocUnsafe(1 + bytes.length);
    value[0] = JSONB_VERSION;
    bytes.copy(value, 1);
    return value;
  },
};

const uuid: TypeForm<'text'> = {
  kind: 'text',
  to(value) {
    if (value.length !== 16) return null;
    const hex = value.toString('hex');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  },
  from: (text) => Buffer.from(stringOf(text).replaceAll('-', ''), 'hex'),
};

// --- numbers ---

const int64Of = (value: bigint): Int64 => ({
  low: Number(BigInt.asIntN(32, value)),
  high: Number(BigInt.asIntN(32, value >> 32n)),
  unsigned: false,
});
const numberOf = (value: Int64 | number): number =>
  typeof value === 'number' ? value : value.high * 2 ** 32 + (value.low >>> 0);

function integer(bytes: 2 | 4): TypeForm<'integer'> {
  return {
    kind: 'integer',
    to: (value) => (value.length === bytes ? value.readIntBE(0, bytes) : null),
    from(found) {
      const value = Buffer.allocUnsafe(bytes);
      value.writeIntBE(numberOf(found), 0, bytes);
      return value;
    },
  };
}

const oid: TypeForm<'integer'> = {
  kind: 'integer',
  to: (value) => (value.length === 4 ? value.readUInt32BE(0) : null),
  from(found) {
    const value = Buffer.allocUnsafe(4);
    value.writeUInt32BE(numberOf(found));
    return value;
  },
};

const int8: TypeForm<'integer'> = {
  kind: 'integer',
  to: (value) =>
    value.length === 8 ? { low: value.readInt32BE(4), high: value.readInt32BE(0), unsigned: false } : null,
  from(found) {
    const { low, high } = typeof found === 'number' ? int64Of(BigInt(found)) : found;
    const value = Buffer.allocUnsafe(8);
    value.writeInt32BE(high, 0);
    value.writeInt32BE(low, 4);
    return value;
  },
};

/** A NaN has many bit patterns and JavaScript keeps only one: the others travel as binary. */
const CANONICAL_NAN = { float4: 0x7fc00000, float8: 0x7ff80000 };

const float4: TypeForm<'number'> = {
  kind: 'number',
  to(value) {
    if (value.length !== 4) return null;
    const number = value.readFloatBE(0);
    return Number.isNaN(number) && value.readUInt32BE(0) !== CANONICAL_NAN.float4 ? null : number;
  },
  from(number) {
    const value = Buffer.allocUnsafe(4);
    if (Number.isNaN(number)) value.writeUInt32BE(CANONICAL_NAN.float4);
    else value.writeFloatBE(number);
    return value;
  },
};

const float8: TypeForm<'number'> = {
  kind: 'number',
  to(value) {
    if (value.length !== 8) return null;
    const number = value.readDoubleBE(0);
    const odd =
      Number.isNaN(number) && (value.readUInt32BE(0) !== CANONICAL_NAN.float8 || value.readUInt32BE(4) !== 0);
    return odd ? null : number;
  },
  from(number) {
    const value = Buffer.alloc(8);
    if (Number.isNaN(number)) value.writeUInt32BE(CANONICAL_NAN.float8);
    else value.writeDoubleBE(number);
    return value;
  },
};

const bool: TypeForm<'boolean'> = {
  kind: 'boolean',
  to: (value) => (value.length === 1 && value[0]! <= 1 ? value[0] === 1 : null),
  from: (boolean) => Buffer.from([boolean ? 1 : 0]),
};

// --- dates and times: Postgres counts from 2000-01-01 ---

const EPOCH_MS = Date.UTC(2000, 0, 1);
const DAY_MS = 86_400_000;
/** Years that ISO 8601 writes with four digits and without a sign. Infinity lies outside too. */
const FIRST_MS = Date.parse('0001-01-01T00:00:00Z');
const LAST_MS = Date.parse('9999-12-31T23:59:59.999Z');
const plainYear = (ms: number): boolean => ms >= FIRST_MS && ms <= LAST_MS;

const date: TypeForm<'text'> = {
  kind: 'text',
  to(value) {
    if (value.length !== 4) return null;
    const ms = EPOCH_MS + value.readInt32BE(0) * DAY_MS;
    return plainYear(ms) ? new Date(ms).toISOString().slice(0, 10) : null;
  },
  from(text) {
    const value = Buffer.allocUnsafe(4);
    value.writeInt32BE((Date.parse(`${stringOf(text)}T00:00:00Z`) - EPOCH_MS) / DAY_MS);
    return value;
  },
};

/** `suffix` is Z for timestamptz, which Postgres keeps in UTC. */
function timestamp(suffix: '' | 'Z'): TypeForm<'text'> {
  return {
    kind: 'text',
    to(value) {
      if (value.length !== 8) return null;
      const micros = value.readBigInt64BE(0);
      const rest = ((micros % 1000n) + 1000n) % 1000n;
      const ms = EPOCH_MS + Number((micros - rest) / 1000n);
      if (!plainYear(ms)) return null;
      return `${new Date(ms).toISOString().slice(0, -1)}${String(rest).padStart(3, '0')}${suffix}`;
    },
    from(found) {
      const text = stringOf(found);
      const value = Buffer.allocUnsafe(8);
      // YYYY-MM-DDTHH:MM:SS.mmm, then three more digits.
      const ms = Date.parse(`${text.slice(0, 23)}Z`) - EPOCH_MS;
      value.writeBigInt64BE(BigInt(ms) * 1000n + BigInt(text.slice(23, 26)));
      return value;
    },
  };
}

// --- pgvector and bit strings ---

/** vector and halfvec: int16 dimension, int16 unused, then the elements, which are big-endian. */
function denseVector<K extends 'vector' | 'halfvec'>(kind: K, elementBytes: 2 | 4): TypeForm<K> {
  const swap = (elements: Buffer): Buffer => (elementBytes === 4 ? elements.swap32() : elements.swap16());
  return {
    kind,
    to(value) {
      if (value.length < 4 || value.readUInt16BE(2) !== 0) return null;
      const dimension = value.readUInt16BE(0);
      if (value.length !== 4 + dimension * elementBytes) return null;
      return { dimension, values: new SwappedElements(value.subarray(4), elementBytes) };
    },
    from(found) {
      const values = littleEndian(found.values ?? noBytes);
      const value = Buffer.allocUnsafe(4 + values.length);
      value.writeUInt16BE(found.dimension ?? 0, 0);
      value.writeUInt16BE(0, 2);
      value.set(values, 4);
      swap(value.subarray(4));
      return value;
    },
  };
}

function littleEndian(values: Elements): Uint8Array {
  if (!(values instanceof SwappedElements)) return values;
  const copy = Buffer.from(values.bytes);
  return values.elementBytes === 4 ? copy.swap32() : copy.swap16();
}

const SPARSE_HEADER_BYTES = 12;
/** int32 dimension, int32 count, int32 unused, the indices, the elements. */
const sparsevec: TypeForm<'sparsevec'> = {
  kind: 'sparsevec',
  to(value) {
    if (value.length < SPARSE_HEADER_BYTES || value.readInt32BE(8) !== 0) return null;
    const count = value.readUInt32BE(4);
    if (value.length !== SPARSE_HEADER_BYTES + count * 8) return null;
    const indices = Array.from({ length: count }, (_, at) =>
      value.readUInt32BE(SPARSE_HEADER_BYTES + at * 4),
    );
    const values = Buffer.from(value.subarray(SPARSE_HEADER_BYTES + count * 4)).swap32();
    return { dimension: value.readUInt32BE(0), indices, values };
  },
  from(found) {
    const indices = found.indices ?? [];
    const values = found.values ?? noBytes;
    const value = Buffer.allocUnsafe(SPARSE_HEADER_BYTES + indices.length * 4 + values.length);
    value.writeUInt32BE(found.dimension ?? 0, 0);
    value.writeUInt32BE(indices.length, 4);
    value.writeUInt32BE(0, 8);
    indices.forEach((index, at) => value.writeUInt32BE(index, SPARSE_HEADER_BYTES + at * 4));
    const elements = value.subarray(SPARSE_HEADER_BYTES + indices.length * 4);
    elements.set(values);
    elements.swap32();
    return value;
  },
};

/** int32 number of bits, then the bytes. */
const bits: TypeForm<'bits'> = {
  kind: 'bits',
  to(value) {
    if (value.length < 4) return null;
    const length = value.readUInt32BE(0);
    return value.length === 4 + Math.ceil(length / 8) ? { length, data: value.subarray(4) } : null;
  },
  from(found) {
    const data = found.data ?? noBytes;
    const value = Buffer.allocUnsafe(4 + data.length);
    value.writeUInt32BE(found.length ?? 0);
    value.set(data, 4);
    return value;
  },
};

type AnyTypeForm = { [K in keyof ValueForm]-?: TypeForm<K> }[keyof ValueForm];

const typeForms: ReadonlyMap<string, AnyTypeForm> = new Map<string, AnyTypeForm>([
  ...['text', 'varchar', 'bpchar', 'name', 'citext', 'json'].map((type): [string, AnyTypeForm] => [
    type,
    plainText,
  ]),
  ['jsonb', jsonb],
  ['uuid', uuid],
  ['int2', integer(2)],
  ['int4', integer(4)],
  ['int8', int8],
  ['oid', oid],
  ['float4', float4],
  ['float8', float8],
  ['bool', bool],
  ['date', date],
  ['timestamp', timestamp('')],
  ['timestamptz', timestamp('Z')],
  ['vector', denseVector('vector', 4)],
  ['halfvec', denseVector('halfvec', 2)],
  ['sparsevec', sparsevec],
  ['bit', bits],
  ['varbit', bits],
]);
