/**
 * Reads a zip archive that is wholly in memory (a Python wheel is one). Only what wheels use: stored and deflated entries, no encryption,
 * no zip64. Every entry's length and CRC-32 are checked.
 */
import { crc32, inflateRawSync } from 'node:zlib';

export interface ZipEntry {
  /** With `/` between folders; ends in `/` for a folder. */
  readonly name: string;
  readonly executable: boolean;
  readonly content: () => Buffer;
}

const endSignature = 0x06054b50;
const entrySignature = 0x02014b50;

export function readZip(archive: Buffer): ZipEntry[] {
  const end = findEnd(archive);
  const count = archive.readUInt16LE(end + 10);
  const entries: ZipEntry[] = [];
  let at = archive.readUInt32LE(end + 16);
  for (let i = 0; i < count; i++) {
    if (archive.readUInt32LE(at) !== entrySignature)
      throw new Error('damaged archive: its directory is broken');
    const nameLength = archive.readUInt16LE(at + 28);
    const name = archive.toString('utf8', at + 46, at + 46 + nameLength);
    if (name.startsWith('/') || name.split('/').includes('..'))
      throw new Error(`damaged archive: ${name} leads out of its folder`);
    const place = {
      name,
      method: archive.readUInt16LE(at + 10),
      crc: archive.readUInt32LE(at + 16),
      packedBytes: archive.readUInt32LE(at + 20),
      bytes: archive.readUInt32LE(at + 24),
      headerAt: archive.readUInt32LE(at + 42),
    };
    const unixMode = archive.readUInt32LE(at + 38) >>> 16;
    entries.push({ name, executable: (unixMode & 0o100) !== 0, content: () => unpack(archive, place) });
    at += 46 + nameLength + archive.readUInt16LE(at + 30) + archive.readUInt16LE(at + 32);
  }
  return entries;
}

function findEnd(archive: Buffer): number {
  for (let at = archive.length - 22; at >= Math.max(0, archive.length - 22 - 0xffff); at--) {
    if (archive.readUInt32LE(at) === endSignature) return at;
  }
  throw new Error('not a zip archive');
}

interface Place {
  readonly name: string;
  readonly method: number;
  readonly crc: number;
  readonly packedBytes: number;
  readonly bytes: number;
  readonly headerAt: number;
}

function unpack(archive: Buffer, place: Place): Buffer {
  const from =
    place.headerAt +
    30 +
    archive.readUInt16LE(place.headerAt + 26) +
    archive.readUInt16LE(place.headerAt + 28);
  const packed = archive.subarray(from, from + place.packedBytes);
  if (place.method !== 0 && place.method !== 8) throw new Error(`unknown compression in ${place.name}`);
  const content = place.method === 0 ? packed : inflateRawSync(packed);
  if (content.length !== place.bytes || crc32(content) !== place.crc)
    throw new Error(`damaged archive: ${place.name}`);
  return content;
}
