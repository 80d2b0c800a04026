/** The golden cases in TypeScript; test/integration/crdt-sql.test.ts runs them in SQL. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { projectRoot } from '#core/config/project-root.files.ts';
import type { HlcValue, NodeNumber } from '../version.ts';
import { applyOperations } from './apply-operations.ts';
import { goldenDot, goldenFields, goldenFile, goldenHlc, type GoldenCase } from './golden.testing.ts';
import { parseOperations } from './operation.ts';
import { sameCrdt } from './state.ts';
import { valueOf, valuesOf } from './values.ts';

const cases = JSON.parse(readFileSync(join(projectRoot, goldenFile), 'utf8')) as GoldenCase[];

test.each(cases.map((one) => ({ name: one.name, one })))('$name', ({ one }) => {
  const before = JSON.stringify(one.state ?? null);
  const parsed = parseOperations(one.operations, goldenFields);
  const result = parsed.ok
    ? applyOperations({
        state: one.state ?? null,
        fields: goldenFields,
        operations: parsed.operations,
        dot: { ...goldenDot, origin: goldenDot.origin as NodeNumber },
        hlc: goldenHlc as HlcValue,
        request: one.request ?? null,
      })
    : parsed;
  expect(JSON.stringify(one.state ?? null)).toBe(before);
  if ('problem' in one.then) {
    expect(result).toMatchObject({
      ok: false,
      problem: { code: one.then.problem, detail: expect.stringMatching(/^crdt/) },
    });
    return;
  }
  if (!result.ok) throw new Error(result.problem.detail);
  expect(result.state).toEqual(one.then.state);
  expect(sameCrdt(result.state, one.then.state)).toBe(true);
  expect(valuesOf(result.state, goldenFields)).toEqual(one.then.values);
  for (const [field, type] of Object.entries(goldenFields))
    expect(valueOf(result.state, field, type)).toEqual((one.then.values as Record<string, unknown>)[field]);
});
