/** What ties rows of an attached table to one another or to those of another table: unique constraints, foreign keys, their actions, users' triggers. */
import { expect, test } from '@jest/globals';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { attach, attachAll, rowsOf } from './attach/attaching.ts';

async function expectSame(cluster: TestCluster, table: string): Promise<void> {
  await eventually(`${table} is the same on both masters`, async () => {
    const [one, two] = await Promise.all([0, 1].map((place) => rowsOf(cluster, place, table)));
    return JSON.stringify(one) === JSON.stringify(two);
  });
}

test('a unique constraint that was allowed is kept by each master: a row that does not fit becomes a dead letter that names both', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  await cluster.query(
    0,
    'create table users (tenant integer, id uuid, email text, gone boolean not null default false, primary key (tenant, id))',
  );
  await cluster.query(0, 'create unique index one_email on users (tenant, lower(email)) where not gone');
  cluster.replicate();
  await attachAll(cluster, 'users', { table: 'public.users', allow: { uniqueConstraints: true } });
  await cluster.stopEdges();
  const [ours, theirs] = ['00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-00000000000b'];
  await cluster.query(
    0,
    `insert into users values (1, '${ours}', 'A@b.c', false), (2, '${ours}', 'x', false), (1, gen_random_uuid(), 'y', false)`,
  );
  await cluster.query(
    1,
    `insert into users values (1, '${theirs}', 'a@B.c', false), (2, '${theirs}', 'X', true)`,
  );
  cluster.replicate();
  await cluster.caughtUp();
  // It waits for the other row to move; here its time is over at once.
  for (const place of [0, 1])
    await cluster.query(place, `update pgquorum.parked set at = at - interval '10 minutes'`);
  for (const [place, here, came] of [
    [0, ours, theirs],
    [1, theirs, ours],
  ] as const) {
    const [letter] = await eventually('the dead letter', async () => {
      const found = await cluster.query<{ key: string; message: string }>(
        place,
        'select key, message from pgquorum.dead_letter',
      );
      return found.length > 0 && found;
    });
    const key = (id: string): string => JSON.stringify(['1', id]);
    expect(letter!.key).toBe(key(came));
    expect(letter!.message).toContain(
      `"one_email": the row with key ${JSON.stringify(key(here))} is here already, and that with key ${JSON.stringify(key(came))} came`,
    );
    expect(await rowsOf(cluster, place, 'users')).toHaveLength(4);
  }
}, 120_000);

test('rows with a foreign key wait for their parents and are never dropped; actions between collections are refused', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  await cluster.everywhere(
    'create table parents (id bigint primary key); create table children (id bigint primary key, parent bigint not null references parents)',
  );
  await cluster.query(0, 'insert into parents select i from generate_series(1, 50) i');
  await cluster.query(0, 'insert into children select i, i from generate_series(1, 50) i');
  cluster.replicate();
  // The children first: on the other master they have no parents yet.
  const { warnings } = await attach(cluster, 'children', { table: 'public.children' });
  expect(warnings).toEqual([
    expect.stringMatching(
      /"children_parent_fkey" refers to "public"\."parents", which is not replicated: attach it too.*wait, parked/,
    ),
  ]);
  await cluster.query(0, 'update children set id = id + 100');
  await cluster.caughtUp();
  expect(await rowsOf(cluster, 1, 'children')).toEqual([]);
  expect(await cluster.query(1, 'select count(*)::int as n from pgquorum.parked')).toEqual([{ n: 50 }]);
  await attachAll(cluster, 'parents', { table: 'public.parents' });
  await expectSame(cluster, 'children');
  await attachAll(cluster, 'children', { table: 'public.children' });
  expect(await rowsOf(cluster, 1, 'children')).toHaveLength(50);
  expect(await cluster.query(1, 'select from pgquorum.dead_letter')).toEqual([]);

  await cluster.everywhere(
    'create table cascading (id bigint primary key, parent bigint constraint acts references parents on delete cascade)',
  );
  const table = { table: 'public.cascading' };
  await expect(attach(cluster, 'cascading', table)).rejects.toMatchObject({
    code: 'attach_refused',
    extra: {
      refusals: [0, 1].map((place) => ({
        node: `n${place + 1}`,
        reason: expect.stringMatching(/foreign key with an action "acts"/),
        wayOut: expect.stringMatching(
          /grant set on parameter session_replication_role.*allow\.triggers: \["acts"\]/,
        ),
      })),
    },
  });
  await attachAll(cluster, 'cascading', { ...table, allow: { triggers: ['acts'] } });
}, 120_000);

test('where the role may switch them off, triggers and actions of users do not run again, so nothing is refused for them', async () => {
  await using cluster = await foundTestCluster({ count: 2, originPrivileges: true });
  await cluster.everywhere(`
    create table folders (id bigint primary key);
    create table files (id bigint primary key, folder bigint references folders on delete cascade, n integer default 0);
    create function counting() returns trigger language plpgsql as 'begin new.n := new.n + 1; return new; end';
    create trigger counting before insert or update on files for each row execute function counting()`);
  await cluster.query(0, 'insert into folders select i from generate_series(1, 5) i');
  await cluster.query(0, 'insert into files select i, i from generate_series(1, 5) i');
  cluster.replicate();
  for (const name of ['folders', 'files']) await attachAll(cluster, name, { table: `public.${name}` });
  await cluster.query(0, 'update files set folder = 2 where id < 4');
  await cluster.caughtUp();
  await cluster.query(1, 'delete from folders where id = 2');
  await expectSame(cluster, 'folders');
  await expectSame(cluster, 'files');
  expect(await cluster.query(1, 'select id::int, n from files order by id')).toEqual([
    { id: 4, n: 1 },
    { id: 5, n: 1 },
  ]);
}, 120_000);
