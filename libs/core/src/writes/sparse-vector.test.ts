import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { encodeSparse, parseSparse, sparseOfText, textOfSparse } from './sparse-vector.ts';

const shape = { dimension: 100_000, indexed: false };
const range = (count: number) => Array.from({ length: count }, (_, at) => at);
const ones = (count: number) => ({ indices: range(count), values: range(count).map(() => 1) });

const elements = fc.uniqueArray(
  fc.record({
    index: fc.nat({ max: shape.dimension - 1 }),
    value: fc.float({ noNaN: true, noDefaultInfinity: true }),
  }),
  { selector: ({ index }) => index, maxLength: 30 },
);

test('what was parsed is in order, has no zeros, and comes back from its text', () => {
  fc.assert(
    fc.property(elements, (given) => {
      const { kind: _, ...parsed } = parseSparse(
        { indices: given.map(({ index }) => index), values: given.map(({ value }) => value) },
        shape,
      );
      const expected = given.filter(({ value }) => value !== 0).toSorted((a, b) => a.index - b.index);
      expect(parsed).toEqual({
        indices: expected.map(({ index }) => index),
        values: expected.map(({ value }) => value),
        dimension: shape.dimension,
      });
      expect(sparseOfText(textOfSparse(parsed))).toEqual(parsed);
    }),
  );
});

test('the binary format has indices from 0, the text counts from 1', () => {
  const parsed = parseSparse({ indices: [2, 0], values: [-2, 1], dimension: 3 }, { ...shape, dimension: 3 });
  expect(encodeSparse(parsed).toString('hex')).toBe(
    '00000003' + '00000002' + '00000000' + '00000000' + '00000002' + '3f800000' + 'c0000000',
  );
  expect(textOfSparse(parsed)).toBe('{1:1,3:-2}/3');
});

test('values that are zero in single precision are left out', () => {
  expect(parseSparse({ indices: [0, 1, 2], values: [0, 1e-60, -0] }, shape)).toMatchObject({
    indices: [],
    values: [],
  });
  expect(sparseOfText('{}/3')).toEqual({ indices: [], values: [], dimension: 3 });
});

test('at most 16,000 elements are not zero, 1,000 where an index holds them', () => {
  expect(parseSparse(ones(16_000), shape).indices).toHaveLength(16_000);
  expect(() => parseSparse(ones(16_001), shape)).toThrow('16001 elements');
  const indexed = { ...shape, indexed: true };
  expect(parseSparse(ones(1000), indexed).indices).toHaveLength(1000);
  expect(() => parseSparse(ones(1001), indexed)).toThrow('an hnsw index takes at most 1000');
  // Zeros do not count.
  const { indices, values } = ones(1001);
  expect(parseSparse({ indices, values: values.with(7, 0) }, indexed).indices).toHaveLength(1000);
});

test.each([
  ['another dimension', { indices: [], values: [], dimension: 3 }, 'dimension_mismatch'],
  ['a dimension that is a text', { indices: [], values: [], dimension: '100000' }, 'embedding.dimension'],
  ['no indices', { values: [] }, 'embedding.indices'],
  ['no values', { indices: [] }, 'embedding.values'],
  ['more indices than values', { indices: [1, 2], values: [1] }, '2 indices and 1 values'],
  ['a negative index', { indices: [-1], values: [1] }, 'embedding.indices.0'],
  ['an index beyond the dimension', { indices: [0, 100_000], values: [1, 1] }, 'from 0 to 99999'],
  ['half an index', { indices: [0.5], values: [1] }, 'embedding.indices.0'],
  ['an index twice', { indices: [4, 1, 4], values: [1, 1, 1] }, '4 comes twice'],
  ['an index twice, once with zero', { indices: [4, 4], values: [0, 1] }, '4 comes twice'],
  ['a value that no float holds', { indices: [0], values: [1e39] }, 'embedding.values.0'],
  ['a value that is no number', { indices: [0, 1], values: [1, null] }, 'embedding.values.1'],
  ['an unknown field', { indices: [], values: [], kind: 1 }, 'embedding.kind'],
])('%s is refused', (_name, given, message) => {
  expect(() => parseSparse(given, shape)).toThrow(message);
});
