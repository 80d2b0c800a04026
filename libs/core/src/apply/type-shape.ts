/**
 * Oids inside binary values. An array's value names the type of its elements, a composite's the types of its fields, by oid; the oids of types that
 * were created (enums, extensions' types such as vector) are others on each master, and Postgres refuses a value that names a wrong one. So they
 * are replaced by the target's own. Pure. Formats: array_send and record_send in Postgres's source.
 */
export type TypeShape =
  | { readonly kind: 'array'; readonly elementOid: number; readonly element: TypeShape | null }
  | {
      readonly kind: 'composite';
      readonly fields: readonly { readonly oid: number; readonly shape: TypeShape | null }[];
    };

/** Oids below this one are the same everywhere. */
export const firstOwnOid = 16_384;

/** The value with the target's oids; the same buffer when it has them already. Null shape: there is none to replace. */
export function withOids(shape: TypeShape | null, value: Buffer): Buffer {
  if (shape === null) return value;
  return shape.kind === 'array' ? arrayWithOids(shape, value) : compositeWithOids(shape, value);
}

function arrayWithOids(shape: TypeShape & { kind: 'array' }, value: Buffer): Buffer {
  const dimensions = value.readInt32BE(0);
  const headerBytes = 12 + dimensions * 8;
  const header = Buffer.from(value.subarray(0, headerBytes));
  header.writeUInt32BE(shape.elementOid, 8);
  if (shape.element === null) return Buffer.concat([header, value.subarray(headerBytes)]);
  const parts: Buffer[] = [header];
  for (let at = headerBytes; at < value.length;) at = copyItem(value, at, shape.element, parts);
  return Buffer.concat(parts);
}

function compositeWithOids(shape: TypeShape & { kind: 'composite' }, value: Buffer): Buffer {
  const parts: Buffer[] = [value.subarray(0, 4)];
  let at = 4;
  for (const field of shape.fields) {
    if (at >= value.length) break; // fewer fields than here: Postgres says so
    const oid = Buffer.allocUnsafe(4);
    oid.writeUInt32BE(field.oid, 0);
    parts.push(oid);
    at = copyItem(value, at + 4, field.shape, parts);
  }
  parts.push(value.subarray(at));
  return Buffer.concat(parts);
}

/** A length, -1 for null, and that many bytes. Returns where the next item begins. */
function copyItem(value: Buffer, at: number, shape: TypeShape | null, parts: Buffer[]): number {
  const length = value.readInt32BE(at);
  if (length < 0) {
    parts.push(value.subarray(at, at + 4));
    return at + 4;
  }
  const end = at + 4 + length;
  const inner = withOids(shape, value.subarray(at + 4, end));
  const size = Buffer.allocUnsafe(4);
  size.writeInt32BE(inner.length, 0);
  parts.push(size, inner);
  return end;
}
