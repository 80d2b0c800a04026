/** Errors that no other test brings about. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openDataFolder } from '#core/embedded/data-folder.os.ts';
import { findPostgres } from '#core/embedded/find-postgres.os.ts';
import { isHeld, tryLock } from '#core/embedded/lock.os.ts';
import { up } from '../../apps/cli/src/commands/up.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;
let folder: string;
const say = () => undefined;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pgquorum-codes-'));
  gateway = await freshGateway({ count: 1 });
}, 120_000);
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

test('a page of another origin is refused', async () => {
  const headers = { origin: 'http://elsewhere.example' };
  expect(await gateway.send('GET', '/v1/collections', { headers })).toMatchObject({
    status: 403,
    body: { code: 'host_not_allowed' },
  });
});

test('a collection does not take a table that is there', async () => {
  await gateway.sql(0, 'create table public.taken (a int)');
  expect(await gateway.send('PUT', '/v1/collections/taken', { body: { dimension: 1 } })).toMatchObject({
    status: 409,
    body: { code: 'table_exists' },
  });
});

test('a folder that is said to have Postgres and has none', async () => {
  const options = { pgBin: folder, major: 18, cacheDirs: [], image: 'none', account: undefined, say };
  await expect(findPostgres(options)).rejects.toMatchObject({ code: 'postgres_missing' });
});

test('a data folder that can not be one', () => {
  writeFileSync(join(folder, 'file'), '');
  expect(() => openDataFolder(join(folder, 'file', 'data'), undefined, say)).toThrow(/^embedded_failed: /);
});

test('a second cluster in one data folder', async () => {
  const path = join(folder, 'data');
  const lock = tryLock(openDataFolder(path, undefined, say).lockFile);
  process.env['PGQUORUM_DATA_DIR'] = path;
  try {
    await expect(up.run([])).rejects.toMatchObject({ code: 'already_running' });
  } finally {
    delete process.env['PGQUORUM_DATA_DIR'];
    if (isHeld(lock)) lock.release();
  }
});
