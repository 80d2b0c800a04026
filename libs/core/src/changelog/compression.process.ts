/**
 * Compression of record batches, as Kafka's own clients write and read it. gzip and zstd are Node's; lz4 and snappy are packages with builds for each
 * platform, loaded when they are needed: where there is none, that is said.
 */
import { promisify } from 'node:util';
import { gunzip, gzip, zstdCompress, zstdDecompress } from 'node:zlib';
import { PgquorumError } from '../errors/error.ts';
import type { Codec } from './record-batch.ts';
import { readSnappyBlocks, snappyBlocks, writeSnappyBlocks } from './snappy-blocks.ts';

type Change = (bytes: Buffer) => Promise<Buffer>;
interface Compression {
  readonly compress: Change;
  readonly decompress: Change;
}

/** What is used of the packages. */
interface Lz4 {
  compressFrame(bytes: Buffer): Promise<Buffer>;
  decompressFrame(bytes: Buffer): Promise<Buffer>;
}
interface Snappy {
  compress(bytes: Buffer): Promise<Buffer>;
  uncompress(bytes: Buffer, options: { asBuffer: true }): Promise<Buffer>;
}

/** A variable, so that a program that is built without the packages can be built. */
async function load<T>(codec: Codec, name: string): Promise<T> {
  try {
    const module = (await import(name)) as T & { readonly default?: T };
    return module.default ?? module;
  } catch (cause) {
    throw new PgquorumError(
      'not_supported',
      `compression with ${codec} needs the package ${name}, which is not installed or has no build for this platform`,
      { cause },
    );
  }
}

const codecs: Readonly<Record<Exclude<Codec, 'none'>, () => Promise<Compression>>> = {
  gzip: () => Promise.resolve({ compress: promisify(gzip), decompress: promisify(gunzip) }),
  zstd: () => Promise.resolve({ compress: promisify(zstdCompress), decompress: promisify(zstdDecompress) }),
  lz4: async () => {
    const lz4 = await load<Lz4>('lz4', 'lz4-napi');
    return {
      compress: (bytes) => lz4.compressFrame(bytes),
      decompress: (bytes) => lz4.decompressFrame(bytes),
    };
  },
  snappy: async () => {
    const snappy = await load<Snappy>('snappy', 'snappy');
    return {
      compress: async (bytes) =>
        writeSnappyBlocks(await Promise.all(snappyBlocks(bytes).map((block) => snappy.compress(block)))),
      decompress: async (bytes) =>
        Buffer.concat(
          await Promise.all(
            readSnappyBlocks(bytes).map((block) => snappy.uncompress(block, { asBuffer: true })),
          ),
        ),
    };
  },
};

const loaded = new Map<Codec, Promise<Compression>>();

function compressionOf(codec: Exclude<Codec, 'none'>): Promise<Compression> {
  const found = loaded.get(codec) ?? codecs[codec]();
  loaded.set(codec, found);
  return found;
}

/** Throws `not_supported` where it can not be done. */
export async function checkCompression(codec: Codec): Promise<void> {
  if (codec !== 'none') await compressionOf(codec);
}

export const compress = async (codec: Codec, bytes: Buffer): Promise<Buffer> =>
  codec === 'none' ? bytes : (await compressionOf(codec)).compress(bytes);

export const decompress = async (codec: Codec, bytes: Buffer): Promise<Buffer> =>
  codec === 'none' ? bytes : (await compressionOf(codec)).decompress(bytes);
