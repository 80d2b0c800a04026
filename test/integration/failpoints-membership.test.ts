/** Jobs, purging and joining die by SIGKILL at each step that makes something durable, and go on from there: nothing is lost, done twice or left over. */
import { expect, test } from '@jest/globals';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { attachCollection } from '#core/collections/attach.pg.ts';
import { attachJob } from '#core/collections/attach-job.pg.ts';
import { parseAttach } from '#core/collections/attach-request.ts';
import { readJob, startJob } from '#core/jobs/store.pg.ts';
import type { Job } from '#core/jobs/job.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import type { AppProcess } from './convergence/processes.ts';
import { convergedMasters } from './convergence/compare.ts';
import { withClient } from './convergence/states.ts';
import { failpointsOf } from './failpoints/places.ts';
import { definition, Scene } from './failpoints/scene.ts';

const start = (scene: Scene, kind: string, given: object): Promise<Job> =>
  withClient(scene.masters[0]!, (client) => startJob(client, { kind, arguments: given }));

const done = (scene: Scene, id: string): Promise<Job> =>
  eventually(
    'the job is done',
    async () => {
      const job = (await withClient(scene.masters[0]!, (client) => readJob(client, id)))!;
      if (['failed', 'cancelled'].includes(job.state)) throw new Error(JSON.stringify(job.error));
      return job.state === 'done' ? job : null;
    },
    { withinMs: 90_000, everyMs: 100 },
  );

/** The same rows on both masters, rows of their own, and two rows of one key that differ. */
async function existingTables(scene: Scene): Promise<void> {
  for (const place of [0, 1]) {
    await scene.query(
      place,
      'create table public.items (id text primary key, embedding vector(8) not null, metadata jsonb)',
    );
    await scene.query(
      place,
      `insert into items select k || i, array_fill(i, array[8])::vector, jsonb_build_object('w', k || i || case when k = 'differs' then $1 else '' end)
       from unnest(array['same', $1, 'differs']) k, generate_series(1, 20) i`,
      [`only${place}-`],
    );
  }
}

/** Users write on both masters meanwhile, the same keys too: losers of before the column and of after it. */
async function alter(scene: Scene, replicator: AppProcess): Promise<void> {
  const altering = await start(scene, 'ddl', {
    collection: 'items',
    statement: 'alter table items add column note text',
  });
  const insert = async (): Promise<void> => {
    for (let at = 0; at < 20; at += 1)
      for (const place of [0, 1])
        await scene.query(
          place,
          `insert into items (id, embedding) values ('${place}-${at}', array_fill(1, array[8])::vector), ('both-${at}', array_fill(${place} + 1, array[8])::vector)
           on conflict (id) do update set embedding = excluded.embedding`,
        );
  };
  await scene.dies(replicator, 'ddl-committed', { during: insert });
  await insertLast(scene);
  replicator.start();
  await done(scene, altering.id);
  await convergedMasters(scene.masters, 'items');
  for (const place of [0, 1])
    expect(
      await scene.query(
        place,
        `select count(*)::int as n, count(note)::int as notes from items where id ~ '^[01]-'`,
      ),
    ).toEqual([{ n: 42, notes: 1 }]);
}

/** While the column stands on the first master alone. */
async function insertLast(scene: Scene): Promise<void> {
  const values = `array_fill(1, array[8])::vector`;
  await scene.query(0, `insert into items (id, embedding, note) values ('0-last', ${values}, 'new')`);
  await scene.query(1, `insert into items (id, embedding) values ('1-last', ${values})`);
}

test('an attach and a statement on all masters are finished by whoever comes next', async () => {
  await using scene = await Scene.open(2);
  const nodes = scene.addresses();
  await foundCluster({ nodes, cluster: scene.cluster, log: 'wal' });
  await existingTables(scene);
  const second = scene.replicator(1);
  second.start();
  const request = parseAttach(
    { table: 'public.items', embedding: 'embedding', metadata: 'metadata' },
    { shards: 4, strategy: 'lww' },
  );
  await attachCollection({ nodes, name: 'items', request });
  await scene.write('items');
  const attaching = await start(scene, attachJob, { collection: 'items' });
  const first = scene.replicator(0);
  await scene.dies(first, 'backfill-agreed');
  await scene.dies(first, 'backfill-committed');
  await scene.dies(first, 'job-checkpointed');
  await scene.dies(first, 'job-worked');
  first.start();
  await done(scene, attaching.id);
  await scene.converged('items');
  await alter(scene, first);
  expect([...scene.reached].toSorted()).toEqual(failpointsOf('attach').toSorted());
}, 400_000);

test('purging that is cut off deletes no tombstone that somebody needs, and brings no row back', async () => {
  await using scene = await Scene.open(2, {
    PGQUORUM_VERIFY_INTERVAL_MS: '200',
    PGQUORUM_TOMBSTONE_GRACE_MS: '0',
  });
  const nodes = scene.addresses();
  await foundCluster({ nodes, cluster: scene.cluster, log: 'wal' });
  for (const name of ['docs', 'busy']) await createCollection({ nodes, name, definition });
  const [first, second] = [scene.replicator(0), scene.replicator(1)] as const;
  second.start();
  await scene.write('busy');
  const replace = async (round: number): Promise<void> => {
    await scene.query(
      0,
      `insert into docs (id, embedding) select 'r${round}-' || i, array_fill(i, array[8])::vector from generate_series(1, 40) i`,
    );
    await scene.query(0, `delete from docs where id like 'r${round}-%' and id <> 'r${round}-1'`);
  };
  const points = ['purge-horizon-raised', 'purge-horizons-raised', 'purge-tombstones-deleted'] as const;
  for (const [round, point] of points.entries()) {
    await replace(round);
    await scene.dies(first, point);
  }
  first.start();
  await eventually(
    'all tombstones have gone on both masters',
    async () => {
      const left = await Promise.all(
        [0, 1].map((place) => scene.query(place, 'select from pgquorum.version_docs where deleted')),
      );
      return left.every((rows) => rows.length === 0);
    },
    { withinMs: 90_000, everyMs: 200 },
  );
  for (const place of [0, 1])
    expect(await scene.query(place, 'select id from docs order by id')).toEqual(
      points.map((_, round) => ({ id: `r${round}-1` })),
    );
  await scene.stopWriting();
  for (const name of ['docs', 'busy']) await convergedMasters(scene.masters, name);
  expect([...scene.reached].toSorted()).toEqual(failpointsOf('purge').toSorted());
}, 400_000);

test('a master whose replicator dies at each step of joining has everything in the end', async () => {
  await using scene = await Scene.open(3);
  const two = scene.addresses(2);
  await foundCluster({ nodes: two, cluster: scene.cluster, log: 'wal' });
  const indexed = { ...definition, index: { type: 'hnsw', m: 8, efConstruction: 32 } } as const;
  await createCollection({ nodes: two, name: 'docs', definition: indexed });
  await scene.write('docs', 2);
  const third = scene.replicator(2);
  await scene.dies(third, 'join-collections-made');
  const others: AppProcess[] = [scene.replicator(0), scene.replicator(1)];
  for (const other of others) other.start();
  await scene.dies(third, 'join-filled');
  await scene.dies(third, 'join-index-built');
  await scene.dies(third, 'join-horizons-taken');
  third.start();
  await eventually(
    'the third has joined',
    async () =>
      (await scene.query(2, 'select from pgquorum.node where joining_since is null')).length === 1
        ? true
        : null,
    { withinMs: 60_000 },
  );
  expect(
    await scene.query(
      2,
      `select indisvalid from pg_index where indexrelid = 'public.docs_embedding'::regclass`,
    ),
  ).toEqual([{ indisvalid: true }]);
  await scene.converged('docs');
  expect([...scene.reached].toSorted()).toEqual(failpointsOf('join').toSorted());
}, 400_000);
