import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import type { NodeNumber } from '../versioning/version.ts';
import { BackwardBytes } from './backward-bytes.ts';
import { commits, writeChanges as change } from '../testing/changes.ts';
import { ChangeWriter } from './change-writer.ts';
import { ChangeMessages, type Commit } from './message.ts';
import { ProtoWriters } from './proto-writer.ts';
import { changeProtoFile } from './schema.files.ts';

const schema = protobuf.parse(readFileSync(changeProtoFile, 'utf8')).root;
const messages = new ChangeMessages(schema);
const writers = new ProtoWriters();
const writeChange = writers.of(schema.lookupType('pgquorum.v1.Change'));

const written = (write: (into: BackwardBytes) => void, capacity: number): string => {
  const into = new BackwardBytes(capacity);
  write(into);
  return into.view().toString('hex');
};

describe('the writer of common changes', () => {
  test("writes what the schema's writer writes, byte for byte, whatever it has written before", () => {
    const writer = new ChangeWriter(schema, writers, messages);
    const list = fc.array(
      fc.record({ change, commit: fc.nat({ max: 1 }), name: fc.nat({ max: 1 }), id: fc.string() }),
      { minLength: 1, maxLength: 5 },
    );
    fc.assert(
      fc.property(list, fc.tuple(commits, commits), fc.constantFrom(1, 4096), (all, two, capacity) => {
        for (const one of all) {
          const commit: Commit = two[one.commit]!;
          const about = { id: one.id, originName: ['eu', ''][one.name]! };
          expect(written((into) => writer.write(one.change, commit, about, into), capacity)).toBe(
            written((into) => writeChange(messages.message(one.change, commit, about), into), capacity),
          );
        }
      }),
      { numRuns: 500 },
    );
  });

  test('writes the rows of a table by what stands in each', () => {
    const writer = new ChangeWriter(schema, writers, messages);
    const [table] = [{ collection: 'docs', columns: [{ name: 'v', type: 'vector', isKey: false }] }];
    const [sample] = fc.sample(change, 1);
    const commit = { origin: 1 as NodeNumber, commitTimeMs: 1, commitLsn: 1n };
    const about = { id: 'a', originName: 'eu' };
    for (const found of [
      '0002000000000001000000ff',
      '00020000',
      '0000',
      '000100010000000a',
      '00000000',
      '',
    ]) {
      const row = { table: table!, values: [Buffer.from(found, 'hex')] };
      const one = { ...sample!, row };
      expect(written((into) => writer.write(one, commit, about, into), 64)).toBe(
        written((into) => writeChange(messages.message(one, commit, about), into), 64),
      );
    }
  });

  test('leaves whole states to it', () => {
    const [sample] = fc.sample(change, 1);
    expect(ChangeWriter.takes(sample!)).toBe(true);
    expect(ChangeWriter.takes({ ...sample!, seen: { 1: 2 } })).toBe(false);
  });
});
