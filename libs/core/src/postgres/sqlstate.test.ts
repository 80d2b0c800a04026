import { describe, expect, test } from '@jest/globals';
import { PgquorumError } from '../errors/error.ts';
import {
  classifySqlState,
  isConnectionError,
  isUnreachable,
  sqlStateOf,
  type ErrorClass,
} from './sqlstate.ts';

describe('what a database error while applying means', () => {
  const expected: readonly (readonly [ErrorClass, readonly string[]])[] = [
    // It passes by itself.
    [
      'retry',
      [
        '40001',
        '40P01',
        '55P03',
        '55006',
        '57014',
        '57P01',
        '57P02',
        '57P03',
        '25006',
        '25P03',
        '53300',
        '08006',
        '08001',
      ],
    ],
    // The other row may be on its way.
    ['wait-for-other', ['23505', '23503', '23P01']],
    // Nothing helps until someone acts.
    [
      'operator',
      [
        '42P01',
        '42703',
        '42804',
        '42501',
        '428C9',
        '42P10',
        '3F000',
        '3D000',
        '28000',
        '53100',
        '53200',
        '58030',
        '0A000',
        'XX001',
        'XX002',
      ],
    ],
    // This change can not be applied here.
    ['poison', ['23514', '23502', '22001', '22003', '22P02', '44000', 'P0001', '54000']],
  ];
  test.each(expected.flatMap(([kind, states]) => states.map((state) => [state, kind] as const)))(
    '%s is for %s',
    (state, kind) => {
      expect(classifySqlState(state)).toBe(kind);
    },
  );

  test('a state that nobody thought of is for the operator: nothing is thrown away', () => {
    for (const state of ['99999', 'ZZ000', '38000']) expect(classifySqlState(state)).toBe('operator');
  });
});

describe('a lost connection', () => {
  test.each([
    'ECONNREFUSED',
    'ECONNRESET',
    'EPIPE',
    'ETIMEDOUT',
    '57P01',
    '57P02',
    '57P03',
    '08006',
    '53300',
  ])('is told from the code %s', (code) => {
    expect(isConnectionError(Object.assign(new Error('x'), { code }))).toBe(true);
  });

  test('is told from what the driver says', () => {
    for (const message of [
      'Connection terminated unexpectedly',
      'Connection terminated',
      'timeout expired',
      'Client has encountered a connection error and is not queryable',
      'Client was closed and is not queryable',
    ]) {
      expect(isConnectionError(new Error(message))).toBe(true);
    }
    expect(
      isConnectionError(new AggregateError([Object.assign(new Error('x'), { code: 'ECONNREFUSED' })])),
    ).toBe(true);
  });

  test('is not what the database answered, or a mistake of ours', () => {
    for (const error of [
      Object.assign(new Error('x'), { code: '23505' }),
      new TypeError('x is not a function'),
      null,
      undefined,
      'text',
    ])
      expect(isConnectionError(error)).toBe(false);
  });

  test('is a node that can not be reached, in our own words too', () => {
    const lost = Object.assign(new Error('x'), { code: 'ECONNRESET' });
    expect(isUnreachable(lost)).toBe(true);
    expect(isUnreachable(new PgquorumError('node_unreachable', 'node a', { cause: lost }))).toBe(true);
    // Our own code says what it is, whatever the text and the cause say.
    expect(isUnreachable(new PgquorumError('timeout', 'timeout expired', { cause: lost }))).toBe(false);
    expect(isUnreachable(Object.assign(new Error('x'), { code: '23505' }))).toBe(false);
  });
});

test('only what looks like an SQLSTATE is one', () => {
  expect(sqlStateOf({ code: '23505' })).toBe('23505');
  for (const error of [{ code: 'EPIPES' }, { code: 23505 }, {}, null, new Error('x')])
    expect(sqlStateOf(error)).toBeNull();
  // Five letters too, and all the same the system's.
  for (const code of ['EPIPE', 'EBADF', 'EPERM']) expect(sqlStateOf({ code })).toBeNull();
  // Classes of our users' own.
  expect(sqlStateOf({ code: 'E0001' })).toBe('E0001');
});
