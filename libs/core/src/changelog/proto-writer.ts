/**
 * Writes protobuf messages from the plain objects that protobufjs takes, straight into the place where they are sent from. Pure.
 *
 * Made from the parsed schema, as protobufjs's own encoder is, and byte for byte the same (proto-writer.test.ts). That one allocates for each
 * field and copies everything once more.
 */
import type { Field, MapField, Type } from 'protobufjs';
import { PgquorumError } from '../errors/error.ts';
import { SwappedElements, type BackwardBytes } from './backward-bytes.ts';
import type { Int64 } from './column-value.ts';

type Message = Readonly<Record<string, unknown>>;
/** Writes the whole of it: the last field first. */
export type WriteMessage = (message: object, into: BackwardBytes) => void;

/** Writes a value without its tag. */
interface ValueWriter {
  readonly wireType: 0 | 1 | 2;
  readonly write: (value: never, into: BackwardBytes) => void;
  readonly isDefault: (value: never) => boolean;
}

const value = <T>(
  wireType: 0 | 1 | 2,
  write: (value: T, into: BackwardBytes) => void,
  isDefault: (value: T) => boolean,
): ValueWriter => ({ wireType, write, isDefault }) as ValueWriter;

const isZero = (found: number): boolean => found === 0;

function writeInt64(found: Int64 | number, into: BackwardBytes): void {
  if (typeof found !== 'number') into.varint64(found.low, found.high);
  else if (found >= 0) into.varint(found);
  else into.varint64(found | 0, Math.floor(found / 2 ** 32));
}
const int64 = value<Int64 | number>(0, writeInt64, (found) =>
  typeof found === 'number' ? found === 0 : found.low === 0 && found.high === 0,
);

function writeBytes(found: Uint8Array | SwappedElements, into: BackwardBytes): void {
  const before = into.length;
  if (found instanceof SwappedElements) into.swapped(found);
  else into.bytes(found);
  into.varint(into.length - before);
}

function writeText(found: string | Uint8Array, into: BackwardBytes): void {
  const before = into.length;
  if (typeof found === 'string') into.text(found);
  else into.bytes(found);
  into.varint(into.length - before);
}

const int32 = value<number>(
  0,
  (found, into) => (found < 0 ? into.varint64(found, -1) : into.varint(found)),
  isZero,
);

/** The types that the schema uses; another one is refused when the schema is read. */
const valueWriters: ReadonlyMap<string, ValueWriter> = new Map([
  ['int32', int32],
  ['uint32', value<number>(0, (found, into) => into.varint(found >>> 0), isZero)],
  ['sint32', value<number>(0, (found, into) => into.zigzag(found), isZero)],
  ['int64', int64],
  ['uint64', int64],
  [
    'bool',
    value<boolean>(
      0,
      (found, into) => into.uint8(found ? 1 : 0),
      (found) => !found,
    ),
  ],
  [
    'double',
    value<number>(
      1,
      (found, into) => into.doubleLE(found),
      (found) => Object.is(found, 0),
    ),
  ],
  ['string', value<string | Uint8Array>(2, writeText, (found) => found.length === 0)],
  [
    'bytes',
    value<Uint8Array | SwappedElements>(2, writeBytes, (found) =>
      found instanceof SwappedElements ? found.bytes.length === 0 : found.length === 0,
    ),
  ],
]);

export class ProtoWriters {
  readonly #made = new Map<Type, WriteMessage>();

  of(type: Type): WriteMessage {
    const found = this.#made.get(type);
    if (found !== undefined) return found;
    type.root.resolveAll(); // before it, protobufjs does not know which fields have a presence of their own
    let fields: WriteMessage[] = [];
    const write: WriteMessage = (message, into) => {
      for (let at = fields.length - 1; at >= 0; at -= 1) fields[at]!(message, into);
    };
    this.#made.set(type, write); // before its fields, since messages may contain each other
    fields = type.fieldsArray
      .toSorted((a, b) => a.id - b.id)
      .map((field) => this.#field(field.resolve() as Field));
    return write;
  }

  #field(field: Field): WriteMessage {
    if (field.map) return this.#map(field as unknown as MapField);
    const { name, hasPresence } = field as Field & { readonly hasPresence: boolean };
    const { wireType, write, isDefault } = this.#value(field);
    const tag = tagOf(field.id, wireType);
    if (field.repeated) {
      const packed = wireType !== 2;
      return (message, into) => {
        const values = (message as Message)[name] as readonly never[] | undefined;
        if (values === undefined || values.length === 0) return;
        const before = into.length;
        for (let at = values.length - 1; at >= 0; at -= 1) {
          write(values[at]!, into);
          if (!packed) into.varint(tag);
        }
        if (!packed) return;
        into.varint(into.length - before);
        into.varint(tagOf(field.id, 2));
      };
    }
    return (message, into) => {
      const found = (message as Message)[name] as never;
      if (found === undefined || found === null || (!hasPresence && isDefault(found))) return;
      write(found, into);
      into.varint(tag);
    };
  }

  #value(field: Field): ValueWriter {
    const type = field.resolvedType;
    if (type !== null && 'fieldsArray' in type) {
      const write = this.of(type);
      const delimited = (found: object, into: BackwardBytes): void => {
        const before = into.length;
        write(found, into);
        into.varint(into.length - before);
      };
      return value(2, delimited, () => false);
    }
    return basic(type === null ? field.type : 'int32');
  }

  #map(field: MapField): WriteMessage {
    const { name } = field;
    const key = basic(field.keyType);
    const content = this.#value(field as unknown as Field);
    const [tag, keyTag, contentTag] = [
      tagOf(field.id, 2),
      tagOf(1, key.wireType),
      tagOf(2, content.wireType),
    ];
    return (message, into) => {
      const entries = (message as Message)[name] as Record<string, never> | undefined;
      if (entries === undefined || entries === null) return;
      for (const text of Object.keys(entries).reverse()) {
        const before = into.length;
        content.write(entries[text]!, into);
        into.varint(contentTag);
        key.write((field.keyType === 'string' ? text : Number(text)) as never, into);
        into.varint(keyTag);
        into.varint(into.length - before);
        into.varint(tag);
      }
    };
  }
}

/** What stands before a field's value. */
export const tagOf = (id: number, wireType: number): number => ((id << 3) | wireType) >>> 0;

function basic(type: string): ValueWriter {
  const found = valueWriters.get(type);
  if (found === undefined)
    throw new PgquorumError('invariant_broken', `the schema of the change log uses the type ${type}`);
  return found;
}
