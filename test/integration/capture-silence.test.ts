/** A server that falls silent or goes away while a slot's stream is being opened: whoever opens it is told, at whichever step it happened. */
import { once } from 'node:events';
import net from 'node:net';
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

const message = (kind: string, ...parts: Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5, kind);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const field = (kind: string, text: string): Buffer => Buffer.from(`${kind}${text}\0`);

test('the last word of a server that goes away in the very moment that it lets a reader in is an error of the stream, and ends nothing else', async () => {
  // What a postmaster's sudden end makes of a backend that has just begun: all in one packet.
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined); // the other side may be gone first
    socket.once('data', () =>
      socket.end(
        Buffer.concat([
          message('R', Buffer.alloc(4)),
          message('Z', Buffer.from('I')),
          message('E', field('S', 'FATAL'), field('C', '57P01'), field('M', 'gone'), Buffer.alloc(1)),
        ]),
      ),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const stream = new SlotStream({
    node: { name: 'n1', url: `postgres://a:b@127.0.0.1:${port}/c`, zone: 'a', weight: 1 },
    slot: 's',
    from: 0n,
    publication: null,
  });
  await expect(stream.open()).rejects.toMatchObject({ message: 'gone' });
  server.close();
}, 60_000);
