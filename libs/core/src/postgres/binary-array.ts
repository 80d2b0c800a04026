/** One-dimensional arrays in Postgres's binary format, so that a batch of any size is one parameter. Pure. */
export const typeOid = { text: 25, jsonb: 3802 } as const;

const headerBytes = 20;

export function encodeArray(elementOid: number, elements: readonly (Buffer | null)[]): Buffer {
  if (elements.length === 0) {
    const empty = Buffer.alloc(12);
    empty.writeUInt32BE(elementOid, 8);
    return empty;
  }
  let size = headerBytes;
  for (const element of elements) size += 4 + (element?.length ?? 0);
  const buffer = Buffer.allocUnsafe(size);
  buffer.writeInt32BE(1, 0);
  buffer.writeInt32BE(elements.includes(null) ? 1 : 0, 4);
  buffer.writeUInt32BE(elementOid, 8);
  buffer.writeInt32BE(elements.length, 12);
  buffer.writeInt32BE(1, 16); // arrays begin at 1
  let at = headerBytes;
  for (const element of elements) {
    at = buffer.writeInt32BE(element === null ? -1 : element.length, at);
    if (element !== null) at += element.copy(buffer, at);
  }
  return buffer;
}

export const encodeTexts = (texts: readonly string[]): Buffer =>
  encodeArray(
    typeOid.text,
    texts.map((text) => Buffer.from(text, 'utf8')),
  );

/** jsonb's binary format is a version byte and the text. */
export const encodeJson = (text: string): Buffer => Buffer.from(`\u0001${text}`, 'utf8');
