import { expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { compress, decompress } from './compression.process.ts';
import { codecs } from './record-batch.ts';
import { readSnappyBlocks } from './snappy-blocks.ts';

test.each(codecs)('what %s compresses it gives back, of any size', async (codec) => {
  for (const size of [0, 1, 1000, 32 * 1024, 200_000]) {
    const bytes = Buffer.concat([randomBytes(size >> 1), Buffer.alloc(size - (size >> 1), 'text')]);
    const compressed = await compress(codec, bytes);
    expect((await decompress(codec, compressed)).equals(bytes)).toBe(true);
    if (codec !== 'none' && size > 1000) expect(compressed.length).toBeLessThan(size * 0.7);
  }
});

test('snappy is written in the frame of Java clients, and read without it too', async () => {
  const framed = await compress('snappy', Buffer.alloc(100_000, 'text'));
  expect(framed.subarray(0, 16).toString('hex')).toBe('82534e41505059000000000100000001');
  expect(readSnappyBlocks(framed)).toHaveLength(4);
  const [plain] = readSnappyBlocks(framed);
  expect(await decompress('snappy', plain!)).toEqual(Buffer.alloc(32 * 1024, 'text'));
  expect(() => readSnappyBlocks(framed.subarray(0, -1))).toThrow(/ends behind/);
});
