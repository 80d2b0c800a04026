import { expect, test } from '@jest/globals';
import { parseGrants, Rights } from '#core/access/rights.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Identity } from './identity.ts';
import { TopologyGate } from './topology-gate.ts';

const as = (grants: string): Identity => ({ principal: 'key:x', rights: new Rights(parseGrants(grants)) });
const gate = new TopologyGate(() => ['n1', 'n-2']);
const blind = as('vectors:read;cluster:read');

test('fields that name nodes are left out, wherever answers have them, and texts name none', () => {
  const answer = {
    results: [
      {
        id: 'n1',
        coordinator: 'n1',
        acks: ['n1'],
        version: { text: '1.7', origin: 'n1', clock: { 1: '7' } },
      },
      { id: 'b', error: { code: 'timeout', detail: 'node n-2 did not answer' } },
    ],
    problems: ['n1 to n-2: paused', 'node n10 is none'],
    created: ['n1'],
    unreachable: ['n-2'],
  };
  expect(gate.show(answer, blind)).toEqual({
    results: [
      { id: 'n1', version: { text: '1.7', clock: { 1: '7' } } },
      { id: 'b', error: { code: 'timeout', detail: 'node (hidden) did not answer' } },
    ],
    problems: ['(hidden) to (hidden): paused', 'node n10 is none'],
  });
  expect(gate.show(answer, as('topology:read'))).toBe(answer);
});

test('what callers have stored is left as it is', () => {
  const stored = {
    id: 'a',
    metadata: { node: 'n1', detail: 'n1', results: [{ acks: ['n1'] }] },
    embedding: [1],
  };
  expect(gate.show({ ...stored, node: 'n1', created: true }, blind)).toEqual({ ...stored, created: true });
});

test('errors keep their code and lose the names', () => {
  const error = new PgquorumError('consistency_not_met', 'n1 has it, n-2 has not', {
    extra: { receipt: { id: 'a', acks: ['n1'], required: 2 } },
  });
  expect(gate.showError(error, blind)).toMatchObject({
    code: 'consistency_not_met',
    detail: '(hidden) has it, (hidden) has not',
    extra: { receipt: { id: 'a', required: 2 } },
  });
  expect(Object.keys(gate.showError(error, blind).extra['receipt'] as object)).not.toContain('acks');
  expect(gate.showError(error, as('topology:read'))).toBe(error);
});
