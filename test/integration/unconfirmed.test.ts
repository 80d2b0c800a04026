/**
 * A server that was started anew while somebody was about to read from it: what is written there leaves it only once it has been found to be itself, whatever was
 * found out about the server before. Else the writes would be known elsewhere under dots that the node may have to give up.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { readStart } from '#core/apply/progress.pg.ts';
import type { LogBatch } from '#core/changelog/change.ts';
import { WalChangeLog } from '#core/changelog/wal.pg.ts';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { closeClient, connect } from '#core/postgres/connect.pg.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { withMasters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { requireConfirmed } from '#core/topology/confirmed.pg.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { copyRange } from '#core/verify/copy-states.pg.ts';
import { confirming } from './identity/confirming.ts';
import { query } from './identity/scene.ts';

const collection = 'docs';
const cluster = `unconfirmed-${Math.random().toString(36).slice(2, 8)}`;
const logger = createLogger({ app: 'test', level: 'silent' });

test('a write of a server start that nobody has confirmed is neither read from its log nor copied until that is done', async () => {
  await withMasters({ count: 2 }, async (masters) => {
    const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
    const [origin, target] = await foundCluster({ nodes, cluster, log: 'wal' });
    await createCollection({ nodes, name: collection, definition: { ...testDefinition, shards: 1 } });
    await requireConfirmed(origin!);
    const control = await connect(target!.address, { application: 'test' });
    const start = await readStart(control, { origin: origin!.number, log: 'wal', lanes: 1 });
    await closeClient(control);
    await masters.nodes[0]!.restart('fast');
    await query(masters.nodes[0]!, `insert into public.${collection} values ('early', '[1,2,3]')`);

    const abort = new AbortController();
    const { signal } = abort;
    const log = new WalChangeLog({
      node: origin!.address,
      origin: origin!.number,
      slot: start.source.slot!,
      publication: start.source.publication,
      transactionBytesMax: 1_000_000,
      confirmed: true,
    });
    const batches: LogBatch[] = [];
    const reading = (async () => {
      for await (const batch of log.read({ from: start.from, signal })) batches.push(batch);
    })();
    const copied: number[] = [];
    const copying = (async () => {
      const between = { cluster, collection, source: origin!, target: target!, logger, signal };
      for await (const { written } of copyRange(between, { shard: 0 })) copied.push(written);
    })();
    await sleep(1000);
    expect({ batches, copied }).toEqual({ batches: [], copied: [] });

    await using _ = confirming(origin!, [target!]);
    await copying;
    expect(copied).toEqual([1]);
    const keys = () =>
      batches.flatMap(({ changes }) => changes.flatMap((change) => ('key' in change ? change.key : [])));
    await eventually('the write is read', () => keys().includes('early'));
    abort.abort();
    await reading;
    await log.close();
  });
}, 180_000);

test('who reads from a server that stays unconfirmed is told why', async () => {
  await withMasters({ count: 2 }, async (masters) => {
    const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
    const [origin] = await foundCluster({ nodes, cluster, log: 'wal' });
    await masters.nodes[0]!.restart('immediate');
    await query(masters.nodes[0]!, `update pgquorum.node set identity_problem = 'nobody can be asked'`);
    await expect(requireConfirmed(origin!)).rejects.toMatchObject({
      code: 'not_ready',
      message: expect.stringContaining('nobody can be asked'),
    });
  });
}, 180_000);
