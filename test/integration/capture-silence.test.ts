/** A server that falls silent while a slot's stream is being opened: whoever opens it is told, at whichever step it happened. */
import { expect, test } from '@jest/globals';
import { SlotStream } from '#core/capture/slot.pg.ts';
import { foundTestCluster } from '#core/testing/cluster.pg.ts';
import { edgeSlot } from '#core/topology/names.ts';
import { FaultProxy } from './fault-proxy.ts';

test('opening a stream ends when the server answers nothing any more', async () => {
  await using cluster = await foundTestCluster({ count: 2 });
  const [origin, target] = cluster.nodes;
  const slot = edgeSlot(cluster.cluster, origin!.number, target!.number);
  const steps = ['pg_try_advisory_lock', 'confirmed_flush_lsn', 'START_REPLICATION'];
  await Promise.all(
    steps.map(async (step) => {
      await using proxy = await FaultProxy.beforeUrl(origin!.address.url);
      let reached = false;
      proxy.toServer.swallowFrom = (piece) => (reached ||= piece.includes(step));
      const stream = new SlotStream({
        node: { ...origin!.address, url: proxy.through(origin!.address.url) },
        // Of one slot there is one reader: who only looks at it is held up by nobody.
        slot: step === 'START_REPLICATION' ? slot : `${slot}_${step.length}`,
        from: 2n ** 60n,
        publication: null,
        beginsWithinMs: 5000,
      });
      await expect(stream.open()).rejects.toMatchObject({ code: 'node_unreachable' });
      expect(reached).toBe(true);
      await stream.close();
    }),
  );
}, 180_000);
