import { describe, expect, test } from '@jest/globals';
import { crc32, deflateRawSync } from 'node:zlib';
import { readZip } from './zip.ts';

interface File {
  readonly name: string;
  readonly content: string;
  readonly mode?: number;
  readonly deflate?: boolean;
}

/** An archive as zip and Python's wheel tools write it. */
function makeZip(files: readonly File[], comment = ''): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content, mode = 0o644, deflate = true } of files) {
    const raw = Buffer.from(content);
    const packed = deflate ? deflateRawSync(raw) : raw;
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(deflate ? 8 : 0, 8);
    local.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(deflate ? 8 : 0, 10);
    entry.writeUInt32LE(crc32(raw), 16);
    entry.writeUInt32LE(packed.length, 20);
    entry.writeUInt32LE(raw.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE((mode << 16) >>> 0, 38);
    entry.writeUInt32LE(offset, 42);
    directory.push(entry, Buffer.from(name));
    parts.push(local, Buffer.from(name), packed);
    offset += local.length + name.length + packed.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(offset, 16);
  end.writeUInt16LE(comment.length, 20);
  return Buffer.concat([...parts, listed, end, Buffer.from(comment)]);
}

describe('reading a zip archive', () => {
  test('gives stored and deflated files with their run bits', () => {
    const archive = makeZip(
      [
        { name: 'bin/postgres', content: 'program', mode: 0o755 },
        { name: 'share/empty', content: '' },
        { name: 'share/text', content: 'text '.repeat(1000), deflate: false },
      ],
      'a comment',
    );
    const found = readZip(archive).map((entry) => [entry.name, entry.executable, entry.content().toString()]);
    expect(found).toEqual([
      ['bin/postgres', true, 'program'],
      ['share/empty', false, ''],
      ['share/text', false, 'text '.repeat(1000)],
    ]);
  });

  test('refuses a file whose content was changed', () => {
    const archive = makeZip([{ name: 'a', content: 'content', deflate: false }]);
    archive[archive.indexOf('content')]! ^= 1;
    expect(() => readZip(archive)[0]!.content()).toThrow('damaged archive: a');
  });

  test('refuses names that lead out of the folder', () => {
    for (const name of ['/etc/passwd', 'a/../../b']) {
      expect(() => readZip(makeZip([{ name, content: '' }]))).toThrow('leads out of its folder');
    }
  });

  test('refuses what is no archive, or half of one', () => {
    expect(() => readZip(Buffer.from('<html>not found</html>'))).toThrow('not a zip archive');
    const archive = makeZip([{ name: 'a', content: 'content' }]);
    expect(() => readZip(archive.subarray(0, archive.length - 30))).toThrow('not a zip archive');
  });
});
