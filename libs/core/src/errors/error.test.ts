import { describe, expect, test } from '@jest/globals';
import type { CodeEntry } from './code-entry.ts';
import { errorCodes, type ErrorCode } from './codes.ts';
import { isPgquorumError, PgquorumError, unreachable } from './error.ts';

const entries = Object.entries(errorCodes) as [ErrorCode, CodeEntry][];

/** What a client may assume of an HTTP status from the gRPC status of the same error, and the other way about. */
const httpOf: Readonly<Record<CodeEntry['grpc'], readonly number[]>> = {
  INVALID_ARGUMENT: [400, 415],
  NOT_FOUND: [404],
  ALREADY_EXISTS: [409],
  PERMISSION_DENIED: [403],
  UNAUTHENTICATED: [401],
  RESOURCE_EXHAUSTED: [413, 429],
  FAILED_PRECONDITION: [409, 410, 412, 500],
  ABORTED: [409, 412],
  UNIMPLEMENTED: [400],
  INTERNAL: [500],
  UNAVAILABLE: [503],
  DEADLINE_EXCEEDED: [504],
};

describe('the registry', () => {
  test.each(entries)('%s has a name, statuses that agree and texts for a reader', (code, entry) => {
    expect(code).toMatch(/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/);
    expect(httpOf[entry.grpc]).toContain(entry.http);
    expect(entry.title).toMatch(/^[A-Z].*[^.]$/);
    expect(entry.hint).toMatch(/^[A-Z].*\.$/);
  });

  test('only what may pass by itself is to be tried again', () => {
    for (const [code, entry] of entries)
      if (entry.retry) expect([code, [409, 429, 503, 504].includes(entry.http)]).toEqual([code, true]);
  });

  test('what is unavailable for now is to be tried again', () => {
    for (const [code, entry] of entries)
      if (entry.http === 503 || entry.http === 504) expect([code, entry.retry]).toEqual([code, true]);
  });

  test('titles are distinct', () => {
    expect(new Set(entries.map(([, entry]) => entry.title)).size).toBe(entries.length);
  });
});

describe('an error', () => {
  test('carries its code, detail, cause and what the answer adds', () => {
    const cause = new Error('why');
    const error = new PgquorumError('timeout', 'after 5 ms', { cause, extra: { receipt: 1 } });
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({
      name: 'PgquorumError',
      code: 'timeout',
      detail: 'after 5 ms',
      message: 'timeout: after 5 ms',
      cause,
      extra: { receipt: 1 },
    });
    expect(error.entry).toBe(errorCodes.timeout);
  });

  test('without cause and extra has neither', () => {
    const error = new PgquorumError('internal', 'x');
    expect('cause' in error).toBe(false);
    expect(error.extra).toEqual({});
  });

  test('is told from others', () => {
    expect(isPgquorumError(new PgquorumError('internal', 'x'))).toBe(true);
    for (const other of [new Error('x'), { code: 'internal', detail: 'x' }, null, undefined, 'internal'])
      expect(isPgquorumError(other)).toBe(false);
  });
});

test('a case that was forgotten stops with a broken invariant', () => {
  expect(() => unreachable({ kind: 'new' } as never)).toThrow(
    expect.objectContaining({ code: 'invariant_broken', detail: expect.stringContaining('"kind":"new"') }),
  );
});
