/**
 * One value of a row, from Postgres's binary format to JSON text. Pure.
 *
 * `plain` is what the API shows: json as it is, vectors as arrays, times as RFC 3339. `debezium` is what Debezium's Postgres connector sends: json and
 * numeric as strings, dates as days, timestamps as microseconds, bytes as base64. Numbers keep every digit: they are written as text.
 */
import { toForm, type ValueForm } from './column-value.ts';
import { numericText } from './numeric-text.ts';
import { SwappedElements } from './backward-bytes.ts';

export type JsonStyle = 'plain' | 'debezium';

const isJsonType = (type: string): boolean => type === 'json' || type === 'jsonb';

export function jsonValue(type: string, value: Buffer | null, style: JsonStyle): string {
  if (value === null) return 'null';
  if (type === 'numeric') return numericJson(value, style);
  if (style === 'debezium') {
    const special = debeziumTime(type, value);
    if (special !== null) return special;
  }
  return formJson(type, toForm(type, value), style);
}

function formJson(type: string, form: ValueForm, style: JsonStyle): string {
  if (form.text !== undefined) return textJson(type, form.text, style);
  if (form.integer !== undefined) return integerText(form.integer);
  if (form.number !== undefined) return numberJson(type, form.number);
  if (form.boolean !== undefined) return String(form.boolean);
  if (form.vector !== undefined) return numbersJson(floats(form.vector.values, 'vector'));
  if (form.halfvec !== undefined) return numbersJson(floats(form.halfvec.values, 'halfvec'));
  if (form.sparsevec !== undefined) return sparseJson(form.sparsevec, style);
  if (form.bits !== undefined) return JSON.stringify(bitText(form.bits));
  return bytesJson(type, form.binary ?? Buffer.alloc(0), style);
}

/** A line break in a document's text is white space between its parts: within strings there are none. */
function textJson(type: string, text: string | Uint8Array, style: JsonStyle): string {
  const string = typeof text === 'string' ? text : Buffer.from(text).toString('utf8');
  return isJsonType(type) && style === 'plain' ? string.replaceAll(/[\r\n]+/g, ' ') : JSON.stringify(string);
}

const integerText = (value: NonNullable<ValueForm['integer']>): string =>
  typeof value === 'number' ? String(value) : String((BigInt(value.high) << 32n) | BigInt(value.low >>> 0));

/** JSON has no NaN and no infinity: they are strings. A float4 is the shortest decimal that is that float4. */
function numberJson(type: string, value: number): string {
  if (!Number.isFinite(value)) return `"${value}"`;
  return type === 'float4' ? singleText(value) : Object.is(value, -0) ? '-0' : String(value);
}

function numericJson(value: Buffer, style: JsonStyle): string {
  const text = numericText(value);
  return style === 'plain' && /^-?\d/.test(text) ? text : JSON.stringify(text);
}

/** Decimals that are tried, from numbers that people write to those that models give. */
const scales = [1e3, 1e6, 1e8, 1e10];
/** Beyond it a double has no place for all of the digits. */
const scaledMax = 1e15;

/** Of a single-precision number: a short decimal that rounds to it; the double's own has up to 17 digits. Vectors are made of these, so it counts. */
export function singleText(value: number): string {
  if (Object.is(value, -0)) return '-0';
  for (const scale of scales) {
    const scaled = value * scale;
    if (Math.abs(scaled) > scaledMax) break;
    const decimal = Math.round(scaled) / scale;
    if (Math.fround(decimal) === value) return String(decimal);
  }
  for (let digits = 6; digits < 9; digits += 1) {
    const text = String(Number(value.toPrecision(digits)));
    if (Math.fround(Number(text)) === value) return text;
  }
  return String(Number(value.toPrecision(9)));
}

const numbersJson = (values: readonly number[]): string => `[${values.map(singleText).join(',')}]`;

/** In either order of bytes. */
function floats(values: Uint8Array | SwappedElements | undefined, kind: 'vector' | 'halfvec'): number[] {
  if (values === undefined) return [];
  const swapped = values instanceof SwappedElements;
  const bytes = swapped ? values.bytes : Buffer.from(values);
  const width = kind === 'vector' ? 4 : 2;
  return Array.from({ length: bytes.length / width }, (_, at) => {
    if (kind === 'vector') return swapped ? bytes.readFloatBE(at * 4) : bytes.readFloatLE(at * 4);
    return halfNumber(swapped ? bytes.readUInt16BE(at * 2) : bytes.readUInt16LE(at * 2));
  });
}

/** IEEE 754 half precision. */
function halfNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** Indices count from 0, as in the API; in Debezium's shape it is pgvector's own text, which databases read and which counts from 1. */
function sparseJson(
  { dimension = 0, indices = [], values = new Uint8Array() }: NonNullable<ValueForm['sparsevec']>,
  style: JsonStyle,
): string {
  const numbers = floats(values, 'vector').map(singleText);
  if (style === 'plain')
    return `{"indices":[${indices.join(',')}],"values":[${numbers.join(',')}],"dimension":${dimension}}`;
  return JSON.stringify(
    `{${indices.map((index, at) => `${index + 1}:${numbers[at]!}`).join(',')}}/${dimension}`,
  );
}

function bitText({ length = 0, data = new Uint8Array() }: NonNullable<ValueForm['bits']>): string {
  const bits = Array.from(data, (byte) => byte.toString(2).padStart(8, '0')).join('');
  return bits.slice(0, length);
}

/** Types that have no form of their own come in Postgres's binary format. */
function bytesJson(type: string, bytes: Uint8Array, style: JsonStyle): string {
  const base64 = Buffer.from(bytes).toString('base64');
  return style === 'plain' && type !== 'bytea' ? JSON.stringify({ base64 }) : JSON.stringify(base64);
}

const epochDays = 10_957; // from 1970-01-01 to 2000-01-01
const epochMicros = 946_684_800_000_000n;

/** io.debezium.time.Date and MicroTimestamp; infinity stays the greatest number, minus infinity the least. */
function debeziumTime(type: string, value: Buffer): string | null {
  if (type === 'date' && value.length === 4) {
    const days = value.readInt32BE(0);
    return String(isExtreme(BigInt(days), 31n) ? days : days + epochDays);
  }
  if (type !== 'timestamp' || value.length !== 8) return null;
  const micros = value.readBigInt64BE(0);
  return String(isExtreme(micros, 63n) ? micros : micros + epochMicros);
}

const isExtreme = (value: bigint, bits: bigint): boolean =>
  value === 2n ** bits - 1n || value === -(2n ** bits);
