/** With Kafka: when the slot that feeds a topic was made anew, all who read the topic copy, those too that never looked before. */
import { expect, test } from '@jest/globals';
import type pg from 'pg';
import { MemoryLog } from '#core/changelog/memory.ts';
import { FedCheck } from '#core/resync/fed.pg.ts';
import { runMendedFeed } from '#core/resync/feed.pg.ts';
import { readSourceState } from '#core/resync/store.pg.ts';
import { foundTestCluster, openWal } from '#core/testing/cluster.pg.ts';
import { logSlot } from '#core/topology/names.ts';

test('who looked before and who never did both copy once the slot of the feed is another one', async () => {
  await using cluster = await foundTestCluster({ count: 3, collections: ['docs'], log: 'kafka' });
  const origin = cluster.nodes[0]!;
  const id = { origin: origin.number as number, log: 'kafka' };
  const look = async (place: number): Promise<{ state: string; reason: string | null } | null> => {
    const control: pg.Client = await cluster.client(place);
    const check = new FedCheck(origin, id);
    await check.look(control, await readSourceState(control, id));
    await check.close();
    const found = await readSourceState(control, id);
    return found === null ? null : { state: found.state, reason: found.resync?.reason ?? null };
  };
  expect(await look(1)).toEqual({ state: 'ready', reason: null });

  await cluster.query(0, 'select pg_drop_replication_slot($1)', [logSlot(cluster.cluster, origin.number)]);
  await cluster.query(0, `insert into docs values ('never in the topic', '[1,2,3]')`);
  const log = new MemoryLog({ origin: origin.number, streams: 1 });
  const feeding = runMendedFeed(
    {
      cluster: cluster.cluster,
      origin,
      openReader: (start) => openWal(origin, start),
      openWriter: () => Promise.resolve(log.writer()),
      batchSize: 1,
      idleProgressMs: 0,
    },
    new AbortController().signal,
  );
  await expect(feeding).rejects.toMatchObject({ code: 'position_lost' });

  const resync = { state: 'resync', reason: 'the slot that feeds the topic of n1 was made anew' };
  expect(await look(1)).toEqual(resync);
  expect(await look(2)).toEqual(resync);
  // What feeds it now is known: a second look finds nothing new.
  expect(await look(2)).toEqual(resync);
  const [told] = await cluster.query<{ count: number }>(
    2,
    `select count(*)::int as count from pgquorum.event where type = 'resync' and body ->> 'happened' = 'started'`,
  );
  expect(told).toEqual({ count: 1 });
});
