import { describe, expect, test } from '@jest/globals';
import { rowValues, verdictOf, type Exactness } from './resolver-values.ts';
import { parseResolverName, resolverVersion } from './resolver.ts';
import type { TableColumn } from './row-statements.ts';

const column = (name: string, type: string, vector: TableColumn['vector'] = null): TableColumn => ({
  name,
  type,
  vector,
  fixed: false,
});
const columns = [
  column('id', 'text'),
  column('embedding', 'vector(3)', 'vector'),
  column('metadata', 'jsonb'),
  column('small', 'integer'),
  column('long', 'bigint'),
  column('real', 'double precision'),
  column('sure', 'boolean'),
  column('price', 'numeric(10,2)'),
  column('at', 'timestamp with time zone'),
];
const table = { key: [{ name: 'id', type: 'text' }] };
const texts = {
  id: 'k',
  embedding: '[0.1,2,3e-07]',
  metadata: '{"a": 12345678901234567890, "b": [1.50]}',
  small: '7',
  long: '9007199254740993',
  real: '0.5',
  sure: 't',
  price: '1.10',
  at: '2026-01-02 03:04:05.678901+00',
};
const give = (
  result: unknown,
  sides: readonly (typeof texts | null)[] = [texts, null],
  exactness: Exactness = 'plain',
) => verdictOf({ result, columns, table, sides, exactness });

test('a resolver sees values, and texts where a value would lose digits', () => {
  expect(rowValues({ ...texts, metadata: '{"a": 1}' }, columns, 'plain')).toEqual({
    id: 'k',
    embedding: [0.1, 2, 3e-7],
    metadata: { a: 1 },
    small: 7,
    long: '9007199254740993',
    real: 0.5,
    sure: true,
    price: '1.10',
    at: '2026-01-02 03:04:05.678901+00',
  });
  expect(rowValues({ real: 'NaN', small: null }, columns, 'plain')).toEqual({ real: 'NaN', small: null });
  expect(JSON.stringify(rowValues(texts, columns, 'exact')['metadata'])).toContain('12345678901234567890');
});

describe('what is given back', () => {
  test.each<Exactness>(['plain', 'exact'])(
    'is digit for digit what it was, where it was not changed (%s)',
    (exactness) => {
      expect(give({ row: rowValues(texts, columns, exactness) }, [texts, null], exactness)).toEqual({
        kind: 'row',
        row: texts,
      });
    },
  );

  test('may be a side, a deletion, or some columns: the others stay as they are', () => {
    expect(give('ours')).toEqual({ kind: 'ours' });
    expect(give('theirs')).toEqual({ kind: 'theirs' });
    expect(give({ deleted: true })).toEqual({ kind: 'deleted' });
    const row = {
      embedding: [1, 2, 3],
      metadata: { n: [null, { x: 'y' }] },
      small: 8,
      long: '12',
      sure: false,
      price: 3.5,
      real: 1e300,
    };
    expect(give({ row }, [null as never, texts])).toEqual({
      kind: 'row',
      row: {
        ...texts,
        embedding: '[1,2,3]',
        metadata: '{"n":[null,{"x":"y"}]}',
        small: '8',
        long: '12',
        sure: 'false',
        price: '3.5',
        real: '1e+300',
      },
    });
    expect(give({ row: { metadata: null, at: '2027-01-01' } })).toMatchObject({
      row: { metadata: null, at: '2027-01-01' },
    });
  });

  test('fields in another order are no change', () => {
    const side = { ...texts, metadata: '{"a": 1, "b": {"c": 2.0, "d": []}}' };
    expect(give({ row: { metadata: { b: { d: [], c: 2 }, a: 1 } } }, [side, null])).toMatchObject({
      row: { metadata: side.metadata },
    });
  });

  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  test.each<[unknown, RegExp]>([
    [undefined, /gave nothing/],
    [null, /gave null/],
    ['mine', /gave a string/],
    [[], /gave an array/],
    [{}, /0 fields/],
    [{ row: {}, deleted: true }, /2 fields/],
    [{ deleted: false }, /gave no row/],
    [{ row: [] }, /gave no row/],
    [{ row: new Map() }, /gave no row/],
    [{ row: { nope: 1 } }, /a column nope/],
    [{ row: { id: 'other' } }, /id, which is part of the key/],
    [{ row: { embedding: [1, 2] } }, /2 dimensions for the vector embedding, which has 3/],
    [{ row: { embedding: [1, 2, Number.NaN] } }, /finite numbers/],
    [{ row: { embedding: [1, 2, '3'] } }, /finite numbers/],
    [{ row: { embedding: '[1,2,3]' } }, /a string for the vector/],
    [{ row: { metadata: { n: Number.POSITIVE_INFINITY } } }, /not finite/],
    [{ row: { metadata: { n: undefined } } }, /no JSON/],
    [{ row: { metadata: new Date(0) } }, /no JSON/],
    [{ row: { metadata: cyclic } }, /nested too deeply/],
    [{ row: { small: 1.5 } }, /a whole number/],
    [{ row: { small: '1' } }, /a whole number/],
    [{ row: { long: 2 ** 60 } }, /a whole number/],
    [{ row: { real: '1' } }, /a finite number/],
    [{ row: { sure: 1 } }, /a boolean/],
    [{ row: { at: 5 } }, /a text/],
  ])('is refused when it is rubbish: %p', (result, reason) => {
    expect(() => give(result)).toThrow(reason);
  });
});

test('names and versions', () => {
  expect(parseResolverName('module:merge.v2.ts')).toEqual({ kind: 'module', file: 'merge.v2.ts' });
  expect(parseResolverName('sql:app.merge')).toEqual({ kind: 'sql', schema: 'app', name: 'merge' });
  expect(resolverVersion('a')).toBe('ca978112ca1b');
});
