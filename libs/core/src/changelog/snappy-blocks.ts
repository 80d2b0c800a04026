/** The frame that Kafka's Java client puts around snappy: a header, then blocks, each after its length. Others write plain snappy, which is read too. Pure. */

const magic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0]);
/** The version, and the oldest one that can read it. */
const versions = Buffer.from([0, 0, 0, 1, 0, 0, 0, 1]);
const headerBytes = magic.length + versions.length;
const blockBytesMax = 32 * 1024;

/** What is compressed by itself. */
export function snappyBlocks(bytes: Buffer): Buffer[] {
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += blockBytesMax)
    blocks.push(bytes.subarray(at, at + blockBytesMax));
  return blocks;
}

export const writeSnappyBlocks = (compressed: readonly Buffer[]): Buffer =>
  Buffer.concat([
    magic,
    versions,
    ...compressed.flatMap((block) => {
      const length = Buffer.alloc(4);
      length.writeInt32BE(block.length);
      return [length, block];
    }),
  ]);

/** The compressed blocks. Throws when the last one is cut. */
export function readSnappyBlocks(bytes: Buffer): Buffer[] {
  if (!bytes.subarray(0, magic.length).equals(magic)) return [bytes];
  const blocks: Buffer[] = [];
  for (let at = headerBytes; at < bytes.length;) {
    const end = at + 4 + bytes.readInt32BE(at);
    if (end > bytes.length) throw new Error('a snappy block ends behind its batch');
    blocks.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return blocks;
}
