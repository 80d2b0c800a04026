/**
 * How fast a new master is filled by one that has rows, against `pg_dump | pg_restore` of a plain table of the same rows between the same two servers:
 * small rows without an ANN index, and rows of 768 dimensions with HNSW, which both build after the copy. Ours counts from the start of the replicators until the
 * node is a master, with all its versions; its rate limit is out of the way.
 *
 *     node dist/bench/joining.bench.js [small] [hnsw]
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { CollectionDefinition } from '#core/collections/definition.ts';
import { ownTable } from '#core/collections/definition.ts';
import { indexStatements } from '#core/collections/install.ts';
import { withClient } from '#core/embedded/database.pg.ts';
import type { Masters } from '#core/testing/masters.pg.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { copyTable } from './setup/copy-table.ts';
import { chosen, finish, full, median, rate, rounds, say, show, size, title, whole } from './setup/figures.ts'; // prettier-ignore
import { addresses, clusterName, definition, hnsw, makeCollection, makePlainTable, noIndex, settle, startBenchMasters } from './setup/masters.ts'; // prettier-ignore
import { ReplicatorProcess } from './setup/replicator.ts';
import { RowSource, smallRows, upsertMany, wideRows, type RowShape } from './setup/rows.ts';

interface Variant {
  readonly shape: RowShape;
  readonly rows: number;
  readonly index: CollectionDefinition['index'];
}
const variants = {
  small: { shape: smallRows, rows: size('ROWS_SMALL', full ? 1_000_000 : 100_000), index: noIndex },
  hnsw: { shape: wideRows, rows: size('ROWS_HNSW', full ? 100_000 : 5_000), index: hnsw },
} as const satisfies Record<string, Variant>;

const transactionRows = 500;
const memoryMax = 512;
const withinMs = 3_600_000;
const collection = 'docs';
const plain = 'plain';

interface Joined {
  readonly rowsPerSecond: number;
  /** From the start until all rows were there, without the index. */
  readonly copiedMs: number;
  readonly memory: number;
}

/** Two servers; the first has the rows twice, as a collection and as a plain table. The index is not there: only the new node's is looked at. */
async function fill(masters: Masters, { shape, rows }: Variant): Promise<void> {
  const [from] = masters.nodes;
  await foundCluster({ nodes: addresses([from!]), cluster: clusterName, log: 'wal' });
  await withClient(from!.url, async (client) => {
    await makePlainTable(client, plain, noIndex, shape.dimension);
    await makeCollection([from!], collection, noIndex, shape.dimension);
    for (const table of [collection, plain]) {
      const source = await RowSource.of(client, shape);
      for (const batch of source.batches('row', rows, transactionRows))
        await upsertMany(client, table, batch);
    }
  });
}

/** The new node finds the index in the definition, as it would if the first had it. */
async function setIndex(masters: Masters, { index, shape }: Variant): Promise<void> {
  await withClient(masters.nodes[0]!.superUrl, (client) =>
    client.query('update pgquorum.collection set definition = $1 where name = $2', [
      JSON.stringify(definition(index, shape.dimension)),
      collection,
    ]),
  );
}

async function restore(masters: Masters, { index, shape, rows }: Variant): Promise<number> {
  const [from, to] = masters.nodes;
  const database = 'restored';
  await withClient(to!.superUrl, (client) => client.query(`create database ${database}`));
  const url = new URL(to!.superUrl);
  url.pathname = `/${database}`;
  return withClient(url.href, async (client) => {
    await client.query('create extension vector schema public');
    const began = performance.now();
    await copyTable(from!.superUrl, url.href, plain);
    for (const statement of indexStatements(
      ownTable(plain, { shards: 1 }),
      definition(index, shape.dimension),
    ))
      await client.query(statement);
    const rowsPerSecond = rate(rows, performance.now() - began);
    const found = await client.query<{ count: string }>(`select count(*) from public.${plain}`);
    if (Number(found.rows[0]!.count) !== rows) throw new Error(`${found.rows[0]!.count} rows were restored`);
    return rowsPerSecond;
  });
}

async function join(masters: Masters, { rows }: Variant): Promise<Joined> {
  const [, to] = masters.nodes;
  const began = performance.now();
  await using replicator = await ReplicatorProcess.start({
    pair: { masters },
    serves: masters.nodes.map(({ name }) => name),
    settings: { PGQUORUM_RESYNC_KEYS_PER_S: '10000000' },
  });
  return await withClient(to!.superUrl, async (client) => {
    let copiedMs: number | null = null;
    for (;;) {
      const found = await client
        .query<{ filled: boolean; joined: boolean }>(
          `select coalesce((select bool_and(state = 'ready') from pgquorum.source), false) as filled, joining_since is null as joined from pgquorum.node`,
        )
        .catch(() => ({ rows: [] })); // its schema is not there yet
      const [now] = found.rows;
      if (now?.filled === true) copiedMs ??= performance.now() - began;
      if (now?.joined === true && copiedMs !== null) break;
      if (performance.now() - began > withinMs)
        throw new Error(`the node did not join:\n${replicator.complaints}`);
      await delay(50);
    }
    const rowsPerSecond = rate(rows, performance.now() - began);
    const held = await client.query<{ count: string; versions: string; indexes: string }>(
      `select (select count(*) from public.${collection}) as count, (select count(*) from pgquorum.version_${collection}) as versions`,
    );
    const { count, versions } = held.rows[0]!;
    if (Number(count) !== rows || Number(versions) !== rows)
      throw new Error(`the new master has ${count} rows and ${versions} versions instead of ${rows}`);
    return { rowsPerSecond, copiedMs, memory: replicator.memory().highest };
  });
}

async function run(name: keyof typeof variants): Promise<void> {
  const variant: Variant = variants[name];
  title(
    `${whole(variant.rows)} rows of ${variant.shape.dimension} dimensions, ${variant.index.type === 'none' ? 'no ANN index' : 'an HNSW index'}`,
  );
  const restored: number[] = [];
  const joined: Joined[] = [];
  for (let round = 0; round < rounds; round += 1) {
    await using masters = await startBenchMasters(2);
    await fill(masters, variant);
    await setIndex(masters, variant);
    await settle(masters.nodes);
    if (round % 2 === 0) restored.push(await restore(masters, variant));
    const one = await join(masters, variant);
    joined.push(one);
    if (round % 2 === 1) restored.push(await restore(masters, variant));
    say(
      `  round ${round + 1}: pg_dump | pg_restore ${whole(restored.at(-1)!)} rows/s; joining ${whole(one.rowsPerSecond)} rows/s, copied after ${whole(one.copiedMs)} ms, resident ${whole(one.memory)} MiB`,
    );
  }
  const memory = Math.max(...joined.map((one) => one.memory));
  show({ name: 'pg_dump | pg_restore', value: `${whole(median(restored))} rows/s` });
  show({
    name: 'pgquorum, a new master',
    value: `${whole(median(joined.map((one) => one.rowsPerSecond)))} rows/s`,
    ratio: median(joined.map((one, round) => one.rowsPerSecond / restored[round]!)),
    against: 'pg_dump | pg_restore',
  });
  show({
    name: 'resident memory of the replicator',
    value: `${whole(memory)} MiB`,
    goal: { text: `under ${memoryMax} MB`, met: memory * 1.048576 < memoryMax },
  });
}

for (const name of chosen(Object.keys(variants) as (keyof typeof variants)[])) await run(name);
finish();
