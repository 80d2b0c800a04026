import { describe, expect, test } from '@jest/globals';
import { parseLossless } from '#core/requests/lossless-json.ts';
import type { CrdtFields } from './field.ts';
import { parseOperations } from './operation.ts';

const fields: CrdtFields = { likes: 'g-counter', stock: 'pn-counter', title: 'lww-register', tags: 'or-set' };

describe('operations', () => {
  test('one of each type is taken as it is', () => {
    const body = {
      likes: { increment: 1 },
      stock: { decrement: 2 },
      title: { set: { a: [null] } },
      tags: { remove: true },
    };
    expect(parseOperations(body, fields)).toEqual({ ok: true, operations: body });
  });

  const problem = (body: unknown) => {
    const parsed = parseOperations(body, fields);
    return parsed.ok ? null : parsed.problem;
  };

  test('what is wrong is said with the place and what would be right', () => {
    expect(problem({ views: { increment: 1 } })).toEqual({
      code: 'crdt_unknown_field',
      field: 'views',
      detail: 'crdt.views: the collection declares no such field',
    });
    expect(problem({ likes: { decrement: 1 } })).toEqual({
      code: 'crdt_wrong_operation',
      field: 'likes',
      detail: 'crdt.likes: a g-counter takes an object with one of increment',
    });
    expect(problem({ stock: { decrement: 0 } })).toEqual({
      code: 'crdt_bad_value',
      field: 'stock',
      detail: 'crdt.stock.decrement: must be a whole number from 1 to 9007199254740991',
    });
    expect(problem([])).toMatchObject({ code: 'crdt_bad_value', field: null });
  });

  test('names that objects inherit are no fields and no operations', () => {
    expect(problem({ toString: { increment: 1 } })?.code).toBe('crdt_unknown_field');
    expect(problem(JSON.parse('{"__proto__": {"increment": 1}}'))?.code).toBe('crdt_unknown_field');
    expect(problem({ likes: { constructor: 1 } })?.code).toBe('crdt_wrong_operation');
  });

  test('numbers that JavaScript can not hold are refused wherever they are, never rounded', () => {
    for (const body of [
      '{"likes": {"increment": 9007199254740993}}',
      '{"tags": {"add": 12345678901234567890}}',
      '{"title": {"set": 12345678901234567890}}',
      '{"title": {"set": [{"a": 1e400}]}}',
      '{"title": 12345678901234567890}',
      '12345678901234567890',
    ])
      expect(problem(parseLossless(body))).not.toBe(null);
    expect(problem(parseLossless('{"title": {"set": 1e300}}'))).toBe(null);
  });

  test('texts that jsonb can not hold are refused, in values, names and elements', () => {
    for (const set of ['a\0', { 'a\0': 1 }, ['\ud800']])
      expect(problem({ title: { set } })?.code).toBe('crdt_bad_value');
    for (const add of ['a\0', '\udc00', 'ü'.repeat(512)])
      expect(problem({ tags: { add } })?.code).toBe('crdt_bad_value');
    expect(problem({ tags: { add: 'ü'.repeat(511) } })).toBe(null);
    expect(problem({ title: { set: undefined } })?.code).toBe('crdt_bad_value');
  });
});
