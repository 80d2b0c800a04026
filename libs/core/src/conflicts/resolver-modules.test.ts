import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ResolverModules } from './resolver-modules.process.ts';
import type { ResolverContext, ResolverSide } from './resolver.ts';

let folder: string;
let modules: ResolverModules;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pgquorum-resolvers-'));
  modules = new ResolverModules({ folder, timeoutMs: 500, memoryBytesMax: 32 * 1024 * 1024 });
});

afterAll(async () => {
  await modules[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const side = (n: number): ResolverSide => ({
  row: { n },
  version: { origin: 1, counter: '1', hlc: '1', clock: { 1: 1 }, rank: 0, deleted: false },
});
const context: ResolverContext = {
  collection: 'docs',
  key: 'k',
  shard: 1,
  conflict: 'c',
  kind: 'update-update',
  node: 'n1',
};

async function ask(file: string, text?: string): Promise<unknown> {
  if (text !== undefined) writeFileSync(join(folder, file), text);
  return (await modules.open(file)).resolve(side(1), side(2), context);
}

const sum = 'return { row: { n: ours.row.n + theirs.row.n } };';

test.each([
  ['sum.mjs', `export function resolve(ours, theirs) { ${sum} }`],
  ['sum.js', `export async function resolve(ours, theirs) { ${sum} }`],
  [
    'sum.ts',
    `interface Side { row: { n: number } }\nexport const resolve = (ours: Side, theirs: Side): object => { ${sum} };`,
  ],
])('%s is loaded and asked', async (file, text) => {
  expect(await ask(file, text)).toEqual({ row: { n: 3 } });
});

test('a changed text is another version, and it is what runs', async () => {
  expect(await ask('changes.mjs', `export const resolve = () => 'ours';`)).toBe('ours');
  const before = (await modules.open('changes.mjs')).version;
  expect(await ask('changes.mjs', `export const resolve = () => 'theirs';`)).toBe('theirs');
  expect((await modules.open('changes.mjs')).version).not.toBe(before);
  await ask('changes.mjs', `export const resolve = () => 'ours';`);
  expect((await modules.open('changes.mjs')).version).toBe(before);
});

test('the settings of the process, passwords among them, stay out of its sight', async () => {
  process.env['PGQUORUM_TEST_SECRET'] = 'hidden';
  expect(await ask('env.mjs', `export const resolve = () => ({ seen: Object.keys(process.env) });`)).toEqual({
    seen: [],
  });
});

test.each([
  ['throws.mjs', `export function resolve() { throw new Error('no way'); }`, 'threw: no way'],
  ['rejects.mjs', `export const resolve = () => Promise.reject(new Error('later'));`, 'threw: later'],
  ['function.mjs', `export const resolve = () => () => 1;`, 'could not be cloned'],
  ['syntax.mjs', `export const resolve = (;`, 'can not be loaded'],
  ['empty.mjs', `export const other = 1;`, 'exports no function resolve'],
  ['hangs.mjs', `export function resolve() { for (;;); }`, 'took longer than 500 ms'],
  ['waits.mjs', `export const resolve = () => new Promise(() => undefined);`, 'took longer than 500 ms'],
  ['exits.mjs', `export const resolve = () => process.exit(0);`, 'ended its thread'],
])('%s fails with its reason, and the next question is answered', async (file, text, reason) => {
  await expect(ask(file, text)).rejects.toThrow(reason);
  expect(await ask(file, `export const resolve = () => 'ours';`)).toBe('ours');
});

test('one that takes too much memory is ended, and nothing else', async () => {
  await using patient = new ResolverModules({ folder, timeoutMs: 60_000, memoryBytesMax: 32 * 1024 * 1024 });
  writeFileSync(
    join(folder, 'memory.mjs'),
    'export function resolve() { const all = []; for (;;) all.push(Array.from({ length: 1e4 }, (_, at) => at + 0.5)); }',
  );
  const resolver = await patient.open('memory.mjs');
  await expect(resolver.resolve(side(1), side(2), context)).rejects.toThrow('bytes of memory');
}, 90_000);

test('one that hung once is asked again in a new thread', async () => {
  const text = `export function resolve(ours) { if (ours.row.n === 1) for (;;); return 'ours'; }`;
  await expect(ask('again.mjs', text)).rejects.toThrow('took longer');
  const resolver = await modules.open('again.mjs');
  expect(await resolver.resolve(side(2), side(2), context)).toBe('ours');
});

test.each([
  ['good.mjs', `export const resolve = (ours) => ours.row.n;`, [1, 2, 3]],
  ['bad.mjs', `throw new Error('broken');`, ['can not be loaded: broken']],
])('questions that come while %s is loaded wait for it', async (file, text, answers) => {
  writeFileSync(join(folder, file), text);
  const resolver = await modules.open(file);
  const asked = await Promise.all(
    [1, 2, 3].map((n) =>
      resolver.resolve(side(n), side(0), context).catch((cause: unknown) => (cause as Error).message),
    ),
  );
  expect([...new Set(asked)]).toEqual(answers);
});

test('questions that come together are answered one after the other', async () => {
  await ask(
    'slow.mjs',
    `export const resolve = async (ours) => { await new Promise((done) => setTimeout(done, 100)); return ours.row.n; };`,
  );
  const resolver = await modules.open('slow.mjs');
  expect(await resolver.resolve(side(7), side(0), context)).toBe(7);
  const answers = [1, 2, 3, 4, 5, 6].map((n) => resolver.resolve(side(n), side(0), context));
  expect(await Promise.all(answers)).toEqual([1, 2, 3, 4, 5, 6]);
});

test.each([['missing.mjs'], ['notes.txt']])('%s can not be opened', async (file) => {
  await expect(modules.open(file)).rejects.toThrow(file);
});
