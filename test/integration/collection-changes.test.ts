/** What may change of a collection changes on all nodes at once, and what may not changes on none. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import pg from 'pg';
import { changeCollection } from '#core/collections/catalog.pg.ts';
import { renewTriggers } from '#core/collections/renew-triggers.pg.ts';
import { parseChange } from '#core/collections/definition-request.ts';
import { addRecord } from './conflict-records.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

let gateway: TestGateway;
const all = [0, 1, 2];

beforeAll(async () => {
  gateway = await freshGateway();
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

async function create(name: string, conflicts: object): Promise<void> {
  const answer = await gateway.send('PUT', `/v1/collections/${name}`, { body: { dimension: 3, conflicts } });
  expect(answer.status).toBe(201);
}
const change = (name: string, conflicts: object) =>
  gateway.send('PATCH', `/v1/collections/${name}`, { body: { conflicts } });

/** The rules and the text of the triggers on each node. */
async function rulesOn(node: number, name: string): Promise<unknown> {
  const [row] = await gateway.sql<{ rules: unknown; triggers: string }>(
    node,
    `select c.definition -> 'conflicts' as rules, (select string_agg(md5(p.prosrc), ' ' order by p.proname) from pg_proc p where p.proname like 'bump_%_' || c.name) as triggers
     from pgquorum.collection c where c.name = $1`,
    [name],
  );
  return row;
}
const rules = (name: string) => Promise.all(all.map((node) => rulesOn(node, name)));

test.each([
  ['an unknown strategy', {}, { strategy: 'coin' }, 400, 'invalid_request'],
  [
    'an unknown CRDT type',
    { strategy: 'crdt', crdt: { n: 'g-counter' } },
    { crdt: { m: 'counter' } },
    400,
    'invalid_request',
  ],
  [
    'a CRDT field of another type',
    { strategy: 'crdt', crdt: { n: 'g-counter' } },
    { crdt: { n: 'pn-counter' } },
    409,
    'crdt_field_fixed',
  ],
  ['models in another order', { models: ['a', 'b'] }, { models: ['b', 'a'] }, 409, 'models_not_extended'],
  ['fewer models', { models: ['a', 'b'] }, { models: ['a'] }, 409, 'models_not_extended'],
  ['a model before the others', { models: ['a'] }, { models: ['z', 'a'] }, 409, 'models_not_extended'],
  ['an unknown rule', {}, { luck: 1 }, 400, 'unknown_field'],
])('%s is refused and nothing changes on any node', async (what, before, wanted, status, code) => {
  const name = what.replaceAll(/[^a-z]/g, '_');
  await create(name, before);
  const was = await rules(name);
  const answer = await change(name, wanted);
  expect(answer.body).toMatchObject({ code });
  expect(answer.status).toBe(status);
  expect(await rules(name)).toEqual(was);
});

test('what is not named stays, and all nodes have what is', async () => {
  await create('grows', { strategy: 'crdt', crdt: { n: 'g-counter' }, models: ['a'] });
  const answer = await change('grows', {
    crdt: { tags: 'or-set' },
    models: ['a', 'b'],
    cosineTolerance: 0.1,
  });
  const after = {
    strategy: 'crdt',
    crdt: { n: 'g-counter', tags: 'or-set' },
    models: ['a', 'b'],
    cosineTolerance: 0.1,
  };
  expect(answer).toMatchObject({ status: 200, body: { name: 'grows', definition: { conflicts: after } } });
  const [first, ...others] = await rules('grows');
  expect(first).toMatchObject({ rules: after });
  for (const other of others) expect(other).toEqual(first);
});

test('a change shows on no node before every node can make it', async () => {
  await create('atomic', {});
  const was = await rules('atomic');
  const holder = new pg.Client(gateway.nodes[2]!.url);
  await holder.connect();
  try {
    await holder.query('begin');
    await holder.query(`select pg_advisory_xact_lock(hashtextextended('pgquorum collections', 7308895))`);
    const changing = change('atomic', { strategy: 'vector-clock' });
    const waits = async () =>
      (
        await gateway.sql<{ waits: boolean }>(
          2,
          `select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'advisory') as waits`,
        )
      )[0]!.waits;
    while (!(await waits())) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await rules('atomic')).toEqual(was);
    await holder.query('commit');
    expect((await changing).status).toBe(200);
  } finally {
    await holder.end();
  }
  for (const one of await rules('atomic')) expect(one).toMatchObject({ rules: { strategy: 'vector-clock' } });
});

test('a change that only some nodes have made is finished by repeating it', async () => {
  await create('half', {});
  const body = { conflicts: { strategy: 'vector-clock' } };
  // As a crash between the commits leaves it. For that the first node has to think that it is alone.
  const alone = (retired: boolean) =>
    gateway.sql(0, 'update pgquorum.member set retired = $1 where not spare and name <> $2', [
      retired,
      gateway.nodes[0]!.name,
    ]);
  await alone(true);
  await changeCollection({
    nodes: gateway.nodes.slice(0, 1).map((node) => ({ ...node, weight: 1 })),
    name: 'half',
    change: (before) => parseChange(body, before),
  });
  await alone(false);
  expect(await rulesOn(1, 'half')).not.toEqual(await rulesOn(0, 'half'));
  for (let time = 0; time < 2; time += 1) {
    expect((await change('half', body.conflicts)).status).toBe(200);
    const [first, ...others] = await rules('half');
    expect(first).toMatchObject({ rules: { strategy: 'vector-clock' } });
    for (const other of others) expect(other).toEqual(first);
  }
});

test('the triggers of every node follow the strategy', async () => {
  await create('follows', {});
  for (const node of all) await gateway.sql(node, `insert into follows values ('k', '[1,2,3]')`);
  const stateAfterWrite = async (counter: number): Promise<unknown[]> => {
    const id = await addRecord(gateway, {
      collection: 'follows',
      key: 'k',
      row: { id: 'k', embedding: null, metadata: '{}' },
      origin: 7,
      counter,
    });
    return Promise.all(
      all.map(async (node) => {
        await gateway.sql(node, `update follows set metadata = '{"w": 1}' where id = 'k'`);
        return (
          await gateway.sql<{ state: string }>(node, 'select state from pgquorum.conflict where id = $1', [
            id,
          ])
        )[0]!.state;
      }),
    );
  };
  expect(await stateAfterWrite(1)).toEqual(['superseded', 'superseded', 'superseded']);
  expect((await change('follows', { strategy: 'vector-clock' })).status).toBe(200);
  expect(await stateAfterWrite(2)).toEqual(['open', 'open', 'open']);
});

test('triggers that an earlier state of the code made are made anew at a start, by one of many starters', async () => {
  await create('earlier', { models: ['a'] });
  const wanted = await rules('earlier');
  await gateway.sql(
    1,
    `create or replace function pgquorum.bump_insert_earlier() returns trigger language plpgsql as 'begin return null; end'`,
  );
  expect(await rulesOn(1, 'earlier')).not.toEqual(wanted[1]);
  const starters = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const client = new pg.Client(gateway.nodes[1]!.url);
      await client.connect();
      return client;
    }),
  );
  try {
    const renewed = await Promise.all(starters.map(renewTriggers));
    expect(renewed.flat()).toEqual(['earlier']);
    expect(await renewTriggers(starters[0]!)).toEqual([]);
  } finally {
    await Promise.all(starters.map((client) => client.end()));
  }
  expect(await rules('earlier')).toEqual(wanted);
  const [made] = await gateway.sql<{ definer: boolean; settings: string[] }>(
    1,
    `select prosecdef as definer, proconfig as settings from pg_proc where proname = 'bump_insert_earlier'`,
  );
  expect(made).toMatchObject({ definer: true, settings: expect.arrayContaining(['enable_seqscan=off']) });
});
