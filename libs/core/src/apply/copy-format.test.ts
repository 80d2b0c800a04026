import { binaryRows, textRows, type CopyData } from './copy-format.ts';

const written = (data: CopyData, start = 0): Buffer => {
  const target = Buffer.alloc(start + data.bytesMax);
  const end = data.write(target, start);
  return target.subarray(start, end);
};

/** What the messages carry, as the server puts it together. */
function carried(messages: Buffer): { content: Buffer; sizes: number[] } {
  const parts: Buffer[] = [];
  for (let at = 0; at < messages.length;) {
    expect(messages.toString('latin1', at, at + 1)).toBe('d');
    const end = at + 1 + messages.readInt32BE(at + 1);
    parts.push(messages.subarray(at + 5, end));
    at = end;
  }
  return { content: Buffer.concat(parts), sizes: parts.map((part) => part.length) };
}

/** Reads Postgres's binary format of copy. */
function rowsOf(content: Buffer): (string | null)[][] {
  expect(content.toString('latin1', 0, 11)).toBe('PGCOPY\n\xff\r\n\0');
  expect([content.readInt32BE(11), content.readInt32BE(15)]).toEqual([0, 0]);
  const rows: (string | null)[][] = [];
  let at = 19;
  for (;;) {
    const count = content.readInt16BE(at);
    at += 2;
    if (count === -1) break;
    const row: (string | null)[] = [];
    for (let column = 0; column < count; column += 1) {
      const length = content.readInt32BE(at);
      at += 4;
      row.push(length < 0 ? null : content.toString('utf8', at, at + length));
      at += Math.max(0, length);
    }
    rows.push(row);
  }
  expect(at).toBe(content.length);
  return rows;
}

test('binary rows come back as they were, nulls and empty values too', () => {
  const rows = [
    ['a', null, ''],
    ['ü', 'b', 'c'],
  ];
  const data = binaryRows(
    rows.map((row) => row.map((value) => (value === null ? null : Buffer.from(value)))),
  );
  expect(rowsOf(carried(written(data)).content)).toEqual(rows);
  expect(rowsOf(carried(written(data, 77)).content)).toEqual(rows);
  expect(rowsOf(carried(written(binaryRows([]))).content)).toEqual([]);
});

test('many rows go in messages of a bounded size, a larger row in one of its own size', () => {
  const rows = Array.from({ length: 300 }, (_, at) => [String(at), 'x'.repeat(at === 7 ? 200_000 : 3000)]);
  const messages = written(binaryRows(rows.map((row) => row.map((value) => Buffer.from(value)))));
  const { content, sizes } = carried(messages);
  expect(rowsOf(content)).toEqual(rows);
  expect(sizes.length).toBeGreaterThan(20);
  expect(sizes.filter((size) => size > 40_000)).toHaveLength(1);
});

test('text rows escape what would end a field or a line', () => {
  const { content } = carried(
    written(
      textRows([
        ['a\tb', null, 'c\\d'],
        ['\\N', '\\.', 'e\nf\rg'],
      ]),
    ),
  );
  expect(content.toString('utf8')).toBe('a\\tb\t\\N\tc\\\\d\n\\\\N\t\\\\.\te\\nf\\rg\n');
});
