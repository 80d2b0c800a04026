/**
 * How fast one lane applies operations on CRDT fields: every row of a small collection is counted once on one master, in one statement, while nothing
 * replicates; then a replicator with a single lane drains them. An operation travels as the whole state of its key, which capture reads again.
 *
 *     node dist/bench/crdt-apply.bench.js
 */
import { setTimeout as delay } from 'node:timers/promises';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { finish, median, rounds, say, show, title, whole } from './setup/figures.ts';
import { addresses, definition, noIndex, settle, startPair, type Pair } from './setup/masters.ts';
import { ReplicatorProcess } from './setup/replicator.ts';

const rows = 20_000;
const goal = 5_000;
const drainMsMax = 120_000;

async function countAtPeer(pair: Pair, condition: string): Promise<number> {
  const found = await pair.atPeer.query<{ keys: string }>(
    `select count(*) as keys from pgquorum.version_counted v where ${condition}`,
  );
  return Number(found.rows[0]!.keys);
}

/** Until the peer has all; counted from the first that it has. */
async function drained(pair: Pair, condition: string): Promise<number> {
  const began = performance.now();
  let first: { readonly at: number; readonly keys: number } | undefined;
  for (;;) {
    const keys = await countAtPeer(pair, condition);
    const now = performance.now();
    if (keys > 0) first ??= { at: now, keys };
    if (first !== undefined && keys >= rows) {
      if (first.keys >= rows) throw new Error('all came at once: too few to measure');
      return ((rows - first.keys) * 1000) / (now - first.at);
    }
    if (now - began > drainMsMax) throw new Error(`only ${keys} of ${rows} keys arrived`);
    await delay(50);
  }
}

title(`Operations on ${whole(rows)} keys of 3 dimensions, one lane`);
await using pair = await startPair('wal');
await createCollection({
  nodes: addresses(pair.masters.nodes),
  name: 'counted',
  definition: {
    ...definition(noIndex),
    dimension: 3,
    conflicts: { strategy: 'crdt', crdt: { views: 'g-counter', tags: 'or-set' } },
  },
});
await pair.atOrigin.query(
  `insert into counted select 'key ' || i, '[1,2,3]', '{}' from generate_series(1, ${rows}) i`,
);
const serves = [pair.peer.name];
const settings = { PGQUORUM_APPLY_LANES: '1' };
{
  await using _replicator = await ReplicatorProcess.start({ pair, serves, settings });
  await drained(pair, 'true');
}
const rates: number[] = [];
for (let round = 1; round <= rounds; round += 1) {
  await pair.atOrigin.query(`select count(pgquorum.counter_add('counted', id, 'views', 1)) from counted`);
  await settle(pair.masters.nodes);
  await using replicator = await ReplicatorProcess.start({ pair, serves, settings });
  rates.push(await drained(pair, `v.crdt @? '$.*.f.views.g.* ? (@ == ${round})'`));
  say(
    `  round ${round}: ${whole(rates.at(-1)!)} rows/s${replicator.complaints === '' ? '' : `\n${replicator.complaints}`}`,
  );
}
const rate = median(rates);
show({
  name: 'one lane',
  value: `${whole(rate)} rows/s`,
  goal: { text: `at least ${whole(goal)} rows/s`, met: rate >= goal },
});
finish();
