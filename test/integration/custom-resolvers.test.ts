/** Custom resolvers between three masters, in modules and in SQL: the primary of a shard resolves, all masters hold the same. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startResolvingCluster, type ResolvingCluster } from './custom-resolvers/cluster.ts';

const mergeModule = `
interface Side { row: { metadata: { tags: string[] }; embedding: number[] } | null }
export function resolve(ours: Side, theirs: Side, context: { key: string }): unknown {
  if (ours.row === null || theirs.row === null) return { deleted: true };
  const tags = [...new Set([...ours.row.metadata.tags, ...theirs.row.metadata.tags])].sort();
  const embedding = ours.row.embedding.map((one, at) => Math.max(one, theirs.row!.embedding[at]!));
  return { row: { metadata: { tags }, embedding } };
}
`;

const mergeFunction = (
  greeting: string,
) => `create or replace function public.merge_tags(ours jsonb, theirs jsonb, context jsonb) returns jsonb language sql as $$
  select case when ours -> 'row' = 'null' or theirs -> 'row' = 'null' then '{"deleted": true}'
    else jsonb_build_object('row', jsonb_build_object('metadata', jsonb_build_object('tags', (
      select jsonb_agg(distinct tag order by tag) from jsonb_array_elements_text((ours #> '{row,metadata,tags}') || (theirs #> '{row,metadata,tags}')) tag where tag <> '${greeting}'))))
  end $$`;

let folder: string;
let cluster: ResolvingCluster;
const write = (file: string, text: string) => writeFileSync(join(folder, file), text);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pgquorum-resolvers-'));
  write('merge.ts', mergeModule);
  cluster = await startResolvingCluster({ folder });
  await cluster.everywhere(mergeFunction('none'));
}, 120_000);

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
}, 120_000);

describe.each([
  ['module', 'module:merge.ts'],
  ['function', 'sql:public.merge_tags'],
])('a resolver that is a %s', (form, resolver) => {
  const name = `by_${form}`;

  beforeAll(() => cluster.create(name, resolver));

  test('makes one row of three concurrent ones, the same on all masters', async () => {
    const keys = Array.from({ length: 12 }, (_, at) => `key ${at}`);
    for (const key of keys) await cluster.race(name, key, ['n1', 'n2', 'n3']);
    await cluster.settled(name);
    for (const key of keys)
      expect((await cluster.rows(name, key)).map((row) => row?.metadata)).toEqual(
        [0, 1, 2].map(() => ({ tags: ['n1', 'n2', 'n3'] })),
      );
    const { items } = await cluster.conflicts(name);
    // Which of the losers met where differs; that all were decided by this text of the resolver does not.
    expect(items.length).toBeGreaterThanOrEqual(keys.length);
    for (const { state, decidedBy, attempt } of items.filter((one) => one.state !== 'superseded')) {
      expect(decidedBy).toMatch(new RegExp(`^custom:${resolver}@[0-9a-f]{12}$`));
      expect({ state, attempt }).toEqual({ state: 'resolved', attempt: null });
    }
    expect(new Set(items.filter((one) => one.state === 'resolved').map((one) => one.decidedBy)).size).toBe(1);
    expect(await cluster.metric('pgquorum_conflicts_resolved_total', name)).toBeGreaterThanOrEqual(
      keys.length,
    );
  }, 60_000);

  test('may delete, and a deletion may be what competes', async () => {
    await cluster.put(0, name, 'gone', ['first']);
    await cluster.seenEverywhere(name, 'gone', ['first']);
    await cluster.race(name, 'gone', ['n1', null, null]);
    await cluster.settled(name);
    expect(await cluster.rows(name, 'gone')).toEqual([null, null, null]);
  }, 60_000);

  test('writers on all masters at once leave the same rows everywhere, and nothing open', async () => {
    const write = async (place: number) => {
      for (let round = 0; round < 40; round++)
        await cluster.put(place, name, `busy ${(round * (place + 1)) % 5}`, [`n${place + 1} ${round}`]);
    };
    await Promise.all([write(0), write(1), write(2)]);
    await cluster.settled(name);
  }, 60_000);
});

test('another text of the resolver is another version, and records say which one decided', async () => {
  await cluster.create('versions', 'sql:public.merge_tags');
  const decidedBy = async (key: string) => {
    await cluster.race('versions', key, ['n1', 'other']);
    await cluster.settled('versions');
    const { items } = await cluster.conflicts('versions', key);
    expect(items).toHaveLength(1);
    return items[0]!.decidedBy;
  };
  const first = await decidedBy('a');
  expect(await decidedBy('b')).toBe(first);
  await cluster.everywhere(mergeFunction('other'));
  const second = await decidedBy('c');
  expect(second).not.toBe(first);
  expect((await cluster.rows('versions', 'c'))[0]!.metadata).toEqual({ tags: ['n1'] });
  await cluster.everywhere(mergeFunction('none'));
  expect(await decidedBy('d')).toBe(first);
}, 120_000);

describe('a resolver that fails', () => {
  beforeAll(async () => {
    write(
      'fails.mjs',
      `export function resolve(ours, theirs, context) {
        switch (context.key) {
          case 'throws': throw new Error('no way');
          case 'hangs': for (;;);
          case 'column': return { row: { nope: 1 } };
          case 'type': return { row: { metadata: { f() {} } } };
          case 'dimension': return { row: { embedding: [1, 2] } };
          case 'finite': return { row: { embedding: [1, NaN, 2] } };
          case 'range': return { row: { embedding: [1e300, 1, 2] } };
          case 'rubbish': return 'whatever';
          case 'key': return { row: { id: 'other' } };
          case 'nul': return { row: { metadata: { text: '\\0' } } };
        }
      }`,
    );
    await cluster.create('failing', 'module:fails.mjs');
    await cluster.everywhere(
      `create or replace function public.failing(ours jsonb, theirs jsonb, context jsonb) returns jsonb language plpgsql as $$
       begin
         case context ->> 'key'
           when 'throws' then raise exception 'no way';
           when 'hangs' then perform pg_sleep(60);
           when 'null' then return null;
           when 'writes' then delete from failing_sql;
           when 'dimension' then return '{"row": {"embedding": [1]}}';
         end case;
         return '"ours"';
       end $$`,
    );
    await cluster.create('failing_sql', 'sql:public.failing');
  }, 60_000);

  test.each([
    ['failing', 'throws', 'threw: no way'],
    ['failing', 'hangs', 'took longer than 400 ms'],
    ['failing', 'column', 'a column nope'],
    ['failing', 'type', 'could not be cloned'],
    ['failing', 'dimension', '2 dimensions for the vector embedding, which has 3'],
    ['failing', 'finite', 'finite numbers'],
    ['failing', 'range', 'can not be written'],
    ['failing', 'rubbish', 'gave a string'],
    ['failing', 'key', 'part of the key'],
    ['failing', 'nul', 'can not be written'],
    ['failing_sql', 'throws', 'threw: no way'],
    ['failing_sql', 'hangs', 'took longer than 400 ms'],
    ['failing_sql', 'null', 'gave null'],
    ['failing_sql', 'writes', 'read-only transaction'],
    ['failing_sql', 'dimension', '1 dimensions'],
  ])(
    '%s, %s: the conflict stays open with the reason, under the same winner everywhere',
    async (name, key, reason) => {
      await cluster.race(name, key, ['n1', 'n2', 'n3']);
      const items = await eventually('the reason is shown', async () => {
        const found = (await cluster.conflicts(name, key)).items.filter((one) => one.state === 'open');
        return found.length === 2 && found.every((one) => one.attempt?.error.includes(reason)) ? found : null;
      });
      for (const { attempt, decidedBy } of items) {
        expect(attempt).toMatchObject({
          resolver: name === 'failing' ? 'module:fails.mjs' : 'sql:public.failing',
          version: expect.stringMatching(/^[0-9a-f]{12}$/),
          node: await cluster.primaryOf(name, key),
        });
        expect(decidedBy).not.toMatch(/^custom:/);
      }
      await eventually('the masters agree', async () => {
        const rows = (await cluster.rows(name, key)).map((row) => JSON.stringify(row));
        return new Set(rows).size === 1 && rows[0] !== 'null';
      });
      expect(await cluster.metric('pgquorum_resolver_failures_total', name)).toBeGreaterThan(0);
    },
    60_000,
  );

  test('is asked again, less and less often, and at once when its text changes', async () => {
    const tries = async () => (await cluster.conflicts('failing', 'throws')).items[0]!.attempt!.tries;
    await eventually('it was asked again', async () => (await tries()) >= 2);
    const [row] = await cluster.sql<{ retry: number }>(
      await cluster.primaryPlace('failing', 'throws'),
      `select max((attempt ->> 'retryInMs')::integer) as retry from pgquorum.conflict where collection = 'failing' and key = 'throws'`,
    );
    expect(row!.retry).toBeGreaterThanOrEqual(2000);
    // Far in the future, so that only the new text explains what happens.
    for (const place of [0, 1, 2])
      await cluster.sql(
        place,
        `update pgquorum.conflict set attempt = attempt || '{"retryInMs": 300000}' where attempt is not null`,
      );
    write('fails.mjs', mergeModule.replaceAll(/interface.*|: (Side|unknown|\{ key: string \})|!/g, ''));
    await cluster.settled('failing');
    expect((await cluster.rows('failing', 'throws'))[0]!.metadata).toEqual({ tags: ['n1', 'n2', 'n3'] });
  }, 60_000);

  test('a file that is gone is told like any failure', async () => {
    rmSync(join(folder, 'fails.mjs'));
    await cluster.race('failing', 'lost', ['n1', 'n2']);
    await eventually('the reason is shown', async () => {
      const [item] = (await cluster.conflicts('failing', 'lost')).items;
      return item?.attempt?.error === 'module fails.mjs: ENOENT' && item.attempt.version === null;
    });
  }, 60_000);
});

describe('a resolver that does not exist', () => {
  const put = (name: string, resolver: string) =>
    cluster.send('PUT', `/v1/collections/${name}`, {
      dimension: 3,
      conflicts: { strategy: 'custom', resolver },
    });
  const refused = { status: 400, body: { code: 'resolver_missing' } };

  test('is refused when a collection is made, and nothing is left of it', async () => {
    await cluster.sql(
      0,
      `create function public.only_one(a jsonb, b jsonb, c jsonb) returns jsonb language sql return 'null'::jsonb`,
    );
    await cluster.everywhere(
      `create function public.no_json(a jsonb, b jsonb, c jsonb) returns text language sql return 'x'`,
    );
    for (const resolver of ['module:none.ts', 'sql:public.none', 'sql:public.only_one', 'sql:public.no_json'])
      expect(await put('nothing', resolver)).toMatchObject(refused);
    expect(await cluster.send('GET', '/v1/collections/nothing')).toMatchObject({ status: 404 });
    for (const place of [0, 1, 2])
      expect(await cluster.sql(place, `select to_regclass('public.nothing') as there`)).toEqual([
        { there: null },
      ]);
  });

  test('is refused when a collection is changed, which stays as it was', async () => {
    await cluster.send('PUT', '/v1/collections/changing', { dimension: 3 });
    const change = (resolver: string) =>
      cluster.send('PATCH', '/v1/collections/changing', { conflicts: { strategy: 'custom', resolver } });
    expect(await change('module:none.ts')).toMatchObject(refused);
    expect(await change('sql:public.only_one')).toMatchObject(refused);
    expect((await cluster.send('GET', '/v1/collections/changing')).body).toMatchObject({
      definition: { conflicts: { strategy: 'lww' } },
    });
    expect(await change('module:merge.ts')).toMatchObject({ status: 200 });
  });
});

test('two replicators of one node ask once, and the second goes on when the first is gone', async () => {
  write(
    'counts.mjs',
    `export const resolve = (ours, theirs) => ({ row: { metadata: { tags: ours.row.metadata.tags, asked: (ours.row.metadata.asked ?? 0) + (theirs.row.metadata.asked ?? 0) + 1 } } });`,
  );
  await cluster.create('counted', 'module:counts.mjs');
  const second = await cluster.startReplicator();
  try {
    const asked = async (key: string) =>
      (await cluster.rows('counted', key)).map((row) => row?.metadata.asked);
    for (let round = 0; round < 10; round++) await cluster.race('counted', `key ${round}`, ['n1', 'n2']);
    await cluster.settled('counted');
    for (let round = 0; round < 10; round++) expect(await asked(`key ${round}`)).toEqual([1, 1, 1]);
    const places = await Promise.all(
      [0, 1, 2].map((place) =>
        cluster.sql(
          place,
          `select count(*)::integer as held from pg_stat_activity where application_name = 'pgquorum resolvers' and datname = current_database()`,
        ),
      ),
    );
    expect(places.flat()).toEqual([{ held: 1 }, { held: 1 }, { held: 1 }]);

    await cluster.stopFirst();
    await cluster.race('counted', 'after', ['n1', 'n2']);
    await cluster.settled('counted');
    expect(await asked('after')).toEqual([1, 1, 1]);
  } finally {
    await second.close();
  }
}, 90_000);

const kafka = await kafkaAvailable();
if (kafka.kind === 'unavailable')
  process.stderr.write(`skipped: custom resolvers with Kafka (${kafka.reason})\n`);

(kafka.kind === 'available' ? test : test.skip)(
  'with Kafka as the change log masters agree on what the resolver makes',
  async () => {
    const { brokers } = await sharedKafka();
    await using kafkaCluster = await startResolvingCluster({
      folder,
      env: { PGQUORUM_KAFKA_BROKERS: brokers.join(',') },
    });
    await kafkaCluster.create('docs', 'module:merge.ts');
    for (let round = 0; round < 5; round++)
      await kafkaCluster.race('docs', `key ${round}`, ['n1', 'n2', 'n3']);
    await kafkaCluster.settled('docs');
    for (let round = 0; round < 5; round++)
      expect((await kafkaCluster.rows('docs', `key ${round}`)).map((row) => row?.metadata.tags)).toEqual(
        [0, 1, 2].map(() => ['n1', 'n2', 'n3']),
      );
  },
  180_000,
);
