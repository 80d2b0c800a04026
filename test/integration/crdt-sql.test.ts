/** The SQL functions of CRDT fields do what the TypeScript does: golden cases, and random operations on random states. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { projectRoot } from '#core/config/project-root.files.ts';
import { connect } from '#core/postgres/connect.pg.ts';
import { migrate } from '#core/postgres/migrate.pg.ts';
import { sqlStateOf } from '#core/postgres/sqlstate.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { applyOperations } from '#core/versioning/crdt/apply-operations.ts';
import type { CrdtFields } from '#core/versioning/crdt/field.ts';
import {
  goldenDot,
  goldenFields,
  goldenFile,
  goldenHlc,
  type GoldenCase,
} from '#core/versioning/crdt/golden.testing.ts';
import { crdtSqlStates, parseOperations, type Operations } from '#core/versioning/crdt/operation.ts';
import { elementsMax } from '#core/versioning/crdt/or-set.ts';
import type { CrdtState } from '#core/versioning/crdt/state.ts';
import { valuesOf } from '#core/versioning/crdt/values.ts';
import type { HlcValue, NodeNumber } from '#core/versioning/version.ts';
import type pg from 'pg';

const cases = JSON.parse(readFileSync(join(projectRoot, goldenFile), 'utf8')) as GoldenCase[];

interface Input {
  readonly state: CrdtState;
  readonly fields: CrdtFields;
  readonly operations: unknown;
  readonly origin: number;
  readonly counter: number;
  readonly hlc: bigint;
  readonly request: string | null;
}
type Outcome = { readonly state: CrdtState; readonly values: unknown } | { readonly problem: string };

const asJson = (value: unknown): string | null => (value === null ? null : JSON.stringify(value));

async function inSql(client: pg.Client, input: Input): Promise<Outcome> {
  try {
    const { rows } = await client.query<{ state: CrdtState; values: unknown; each: unknown }>(
      `select a.state, pgquorum.crdt_values(a.state, $2) as values,
         (select jsonb_object_agg(f.key, pgquorum.crdt_value(a.state, f.key, f.value)) from jsonb_each_text($2) f) as each
       from (select pgquorum.crdt_apply($1::jsonb, $2::jsonb, $3::jsonb, $4, $5, $6, $7) as state) a`,
      [
        asJson(input.state),
        JSON.stringify(input.fields),
        JSON.stringify(input.operations),
        input.origin,
        input.counter,
        input.hlc.toString(),
        input.request,
      ],
    );
    expect(rows[0]!.each).toEqual(rows[0]!.values);
    return { state: rows[0]!.state, values: rows[0]!.values };
  } catch (cause) {
    const problem = crdtSqlStates[sqlStateOf(cause) ?? ''];
    if (problem === undefined) throw cause;
    return { problem };
  }
}

function inTypeScript(input: Input): Outcome {
  const parsed = parseOperations(input.operations, input.fields);
  const result = parsed.ok
    ? applyOperations({
        state: input.state,
        fields: input.fields,
        operations: parsed.operations,
        dot: { origin: input.origin as NodeNumber, counter: input.counter },
        hlc: input.hlc as HlcValue,
        request: input.request,
      })
    : parsed;
  if (!result.ok) return { problem: result.problem.code };
  return { state: result.state, values: valuesOf(result.state, input.fields) };
}

const field = (type: string, verb: string, value: fc.Arbitrary<unknown>) => ({ type, verb, value });
const amount = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 1, max: 50 }) },
  { weight: 1, arbitrary: fc.integer({ min: Number.MAX_SAFE_INTEGER - 60, max: Number.MAX_SAFE_INTEGER }) },
  { weight: 1, arbitrary: fc.constantFrom(0, -1, 1.5, '1', null, 1e300) },
);
/** What jsonb can hold: it has no NUL, and makes no difference between 0 and -0. */
const text = fc.string({ unit: 'binary', maxLength: 6 }).map((value) => value.replaceAll('\0', ''));
const element = fc.oneof(
  fc.constantFrom('a', 'b', 'c', 1, 2, 10, true, false),
  text,
  fc.maxSafeInteger(),
  fc.constantFrom(null, 0.5, [], 'x'.repeat(1023), 'x'.repeat(1022)),
);
const anyJson = fc.jsonValue({ maxDepth: 3, stringUnit: 'binary' }).map(
  (value) =>
    JSON.parse(
      JSON.stringify(value)
        .replaceAll(String.raw`\u0000`, '')
        .replaceAll(/(?<![\w.])-0(?![\w.])/g, '0'),
    ) as unknown,
);
const kinds = [
  field('likes', 'increment', amount),
  field('stock', 'increment', amount),
  field('stock', 'decrement', amount),
  field('title', 'set', anyJson),
  field('tags', 'add', element),
  field('tags', 'remove', element),
  field('likes', 'decrement', amount),
  field('none', 'add', element),
];
const operation = fc
  .constantFrom(...kinds.flatMap((kind, at) => Array<(typeof kinds)[number]>(at < 6 ? 8 : 1).fill(kind)))
  .chain((kind) => kind.value.map((value) => [kind.type, { [kind.verb]: value }] as const));
const step = fc.record({
  operations: fc.array(operation, { minLength: 1, maxLength: 3 }).map((list) => Object.fromEntries(list)),
  origin: fc.integer({ min: 1, max: 3 }),
  hlc: fc.bigInt({ min: 1n, max: 20n }),
  request: fc.option(
    fc.constantFrom(1, 2, 3).map((n) => `0190b2a4-0000-7000-8000-00000000000${n}`),
    { nil: null },
  ),
});
const start = fc.constantFrom<CrdtState>(
  null,
  { '1.5': {} },
  {
    '1.9': { ops: { 1: 11 }, f: { likes: { g: { 1: 4 } }, tags: { s: { '"a"': { 1: 10, 3: 2 } } } } },
    '2.10': { f: { title: { r: ['x', '15', 2, 10] }, tags: { s: { '"a"': { 2: 11 }, '"b"': { 2: 12 } } } } },
    '10.10': { k: { '0190b2a4-0000-7000-8000-000000000001': { at: { 3: 1 }, d: { stock: -4, likes: 2 } } } },
  },
);

describe.each([18, 16] as const)('on Postgres %i', (major) => {
  let fresh: FreshNodes;
  let client: pg.Client;

  beforeAll(async () => {
    fresh = await freshNodes({ count: 1, major });
    client = await connect({ name: 'n1', url: fresh.nodes[0]!.url }, { application: 'crdt test' });
    await migrate(client);
  }, 120_000);
  afterAll(async () => {
    await client?.end();
    await fresh?.[Symbol.asyncDispose]();
  }, 60_000);

  test.each(cases.map((one) => ({ name: one.name, one })))('$name', async ({ one }) => {
    const outcome = await inSql(client, {
      state: one.state ?? null,
      fields: goldenFields,
      operations: one.operations,
      ...goldenDot,
      hlc: goldenHlc,
      request: one.request ?? null,
    });
    expect(outcome).toEqual(one.then);
  });

  test('random operations come out the same, in state, values and refusals', async () => {
    let refused = 0;
    let done = 0;
    await fc.assert(
      fc.asyncProperty(start, fc.array(step, { minLength: 1, maxLength: 8 }), async (first, steps) => {
        let state = first;
        for (const [at, { operations, origin, hlc, request }] of steps.entries()) {
          const input = { state, fields: goldenFields, operations, origin, counter: 100 + at, hlc, request };
          const expected = inTypeScript(input);
          expect(await inSql(client, input)).toEqual(expected);
          if ('problem' in expected) refused += 1;
          else {
            done += 1;
            state = expected.state;
          }
        }
      }),
      { numRuns: 150 },
    );
    expect(refused).toBeGreaterThan(20);
    expect(done).toBeGreaterThan(200);
  }, 120_000);

  const apply = (operations: Operations, state: CrdtState = null) => ({
    state,
    fields: goldenFields,
    operations,
    origin: 1,
    counter: 100,
    hlc: 5n,
    request: null,
  });

  test('a set has a largest size, which elements that it has do not count against', async () => {
    const s = Object.fromEntries(Array.from({ length: elementsMax }, (_, at) => [String(at), { 1: at + 1 }]));
    const state: CrdtState = { '1.5': { f: { tags: { s } } } };
    for (const [operations, problem] of [
      [{ tags: { add: -1 } }, 'crdt_overflow'],
      [{ tags: { add: 7 } }, undefined],
    ] as const) {
      const input = apply(operations, state);
      expect(inTypeScript(input)).toMatchObject(problem === undefined ? { state: {} } : { problem });
      expect(await inSql(client, input)).toEqual(inTypeScript(input));
    }
  }, 60_000);

  test('a register has a largest size and depth', async () => {
    const nested = (levels: number): unknown => (levels === 0 ? 1 : [nested(levels - 1)]);
    for (const [value, fits] of [
      ['x'.repeat(65_534), true],
      ['x'.repeat(65_535), false],
      [nested(64), true],
      [nested(65), false],
    ] as const) {
      const input = apply({ title: { set: value as never } });
      expect('state' in inTypeScript(input)).toBe(fits);
      expect('state' in (await inSql(client, input))).toBe(fits);
    }
  });

  test('numbers that only Postgres can hold are written as doubles are, or refused', async () => {
    const set = (value: string) =>
      client.query<{ text: string }>(
        `select pgquorum.crdt_apply(null, '{"t": "lww-register"}', jsonb_build_object('t', jsonb_build_object('set', $1::jsonb)), 1, 1, 1) #>> '{0.0,f,t,r,0}' as text`,
        [value],
      );
    for (const [value, stored] of [
      ['1.10', '1.1'],
      ['[1.0, {"a": 2.50}]', '[1, {"a": 2.5}]'],
      ['100', '100'],
      ['1e2', '100'],
      ['-0.0', '0'],
      ['"1.10"', '1.10'],
    ] as const)
      expect((await set(value)).rows[0]!.text).toBe(stored);
    for (const value of ['12345678901234567890', '[0.1234567890123456789]', '{"a": 1e400}', '1e-400'])
      await expect(set(value)).rejects.toMatchObject({ code: 'PQ005' });
  });
});
