import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { embeddingOfText, encodeVector, parseEmbedding, textOfEmbedding } from './embedding.ts';

const floats = (dimension: number) =>
  fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), {
    minLength: dimension,
    maxLength: dimension,
  });
const base64 = (numbers: readonly number[]) => ({
  base64: Buffer.from(new Float32Array(numbers).buffer).toString('base64'),
});

test('numbers, base64 and bytes of one vector are the same vector', () => {
  fc.assert(
    fc.property(floats(5), (numbers) => {
      const shape = { dimension: 5, vectorType: 'vector' as const };
      const expected = Float32Array.from(numbers);
      expect(parseEmbedding(numbers, shape)).toEqual(expected);
      expect(parseEmbedding(base64(numbers), shape)).toEqual(expected);
      expect(parseEmbedding(Buffer.from(expected.buffer), shape)).toEqual(expected);
    }),
  );
});

test('the binary format is a dimension, a zero and big-endian floats', () => {
  expect(encodeVector(Float32Array.from([1, -2])).toString('hex')).toBe('00020000' + '3f800000' + 'c0000000');
});

test('the largest float is taken and the next double is not', () => {
  const shape = { dimension: 1, vectorType: 'vector' as const };
  expect(parseEmbedding([3.4028234663852886e38], shape)).toEqual(Float32Array.of(3.4028234663852886e38));
  expect(() => parseEmbedding([3.4028235677973366e38], shape)).toThrow('invalid_vector');
});

test('a half takes up to 65504, and what rounds to it', () => {
  const shape = { dimension: 1, vectorType: 'halfvec' as const };
  expect(parseEmbedding([65_519], shape)).toHaveLength(1);
  expect(() => parseEmbedding([65_520], shape)).toThrow('half precision');
});

test('an embedding of any type comes back from its text', () => {
  fc.assert(
    fc.property(floats(3), (numbers) => {
      // JSON.stringify drops the sign of zero.
      const floats = Float32Array.from(numbers, (number) => number + 0);
      expect(embeddingOfText(textOfEmbedding(floats))).toEqual([...floats]);
    }),
  );
  for (const view of ['0101', '1', { indices: [0, 2], values: [1e-38, -2], dimension: 3 }])
    expect(embeddingOfText(textOfEmbedding(view))).toEqual(view);
});

test.each([
  ['vector', { indices: [0], values: [1] }],
  ['vector', '101'],
  ['sparsevec', [1, 0, 1]],
  ['sparsevec', { base64: 'AAAA' }],
  ['sparsevec', '101'],
  ['bit', [1, 0, 1]],
  ['bit', { indices: [0], values: [1] }],
] as const)('a %s is not taken from the form of another type', (vectorType, embedding) => {
  expect(() => parseEmbedding(embedding, { dimension: 3, vectorType })).toThrow('invalid_vector');
});
