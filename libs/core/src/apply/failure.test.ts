import { expect, test } from '@jest/globals';
import { PgquorumError } from '../errors/error.ts';
import { classifyFailure } from './failure.ts';
import { LocalWriteSlippedIn, UnversionedRows } from './outcomes.ts';

const database = (code: string) => Object.assign(new Error('from the database'), { code });

test('what the database answers is classified by its state', () => {
  expect(classifyFailure(database('40P01'))).toMatchObject({ kind: 'retry', sqlstate: '40P01' });
  expect(classifyFailure(database('23505'))).toMatchObject({ kind: 'wait-for-other', sqlstate: '23505' });
  expect(classifyFailure(database('42703'))).toMatchObject({
    kind: 'operator',
    code: 'schema_drift',
    sqlstate: '42703',
  });
  expect(classifyFailure(database('23514'))).toMatchObject({
    kind: 'poison',
    sqlstate: '23514',
    message: 'from the database',
  });
});

test('a lost connection is never blamed on what was being applied', () => {
  for (const code of ['ECONNRESET', 'EPIPE', '57P01', '08006', '53300'])
    expect(classifyFailure(database(code))).toEqual({ kind: 'connection' });
  expect(classifyFailure(new PgquorumError('node_unreachable', 'gone'))).toEqual({ kind: 'connection' });
});

test('our own findings are told apart', () => {
  expect(classifyFailure(new LocalWriteSlippedIn('a count was off'))).toMatchObject({
    kind: 'retry',
    code: 'local_write',
  });
  const rows = new UnversionedRows('docs', [['k']]);
  expect(classifyFailure(rows)).toEqual({ kind: 'unversioned', rows });
  expect(classifyFailure(new PgquorumError('schema_drift', 'no column x'))).toMatchObject({
    kind: 'operator',
    code: 'schema_drift',
    message: 'no column x',
  });
  expect(classifyFailure(new PgquorumError('stale_shard_map', 'not here'))).toMatchObject({
    kind: 'operator',
    code: 'stale_shard_map',
  });
});

test('a broken invariant, or a mistake in the program, stops the node rather than a change', () => {
  for (const error of [new PgquorumError('invariant_broken', 'x'), new TypeError('x is undefined'), 'a text'])
    expect(classifyFailure(error)).toEqual({ kind: 'fatal', error });
});
