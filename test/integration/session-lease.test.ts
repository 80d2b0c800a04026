/** A lease is never left behind by whoever can not begin the work it was taken for: nobody could take it again while that process lives. */
import { expect, test } from '@jest/globals';
import { freePorts } from '#core/embedded/ports.os.ts';
import { SessionLease } from '#core/postgres/session-lease.pg.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';

test('a lease goes when the connection for the work can not be had, or the work fails', async () => {
  await using fresh = await freshNodes({ count: 1 });
  const node = { ...fresh.nodes[0]!, weight: 1 };
  const take = async (): Promise<SessionLease> => {
    const lease = await SessionLease.take(node, 'work', AbortSignal.timeout(60_000));
    expect(lease).not.toBeNull();
    return lease!;
  };
  const elsewhere = new URL(node.url);
  elsewhere.port = String((await freePorts(1))[0]);
  const lease = await take();
  await expect(
    lease.connected({ ...node, url: elsewhere.href }, { application: 'work' }, () => Promise.resolve()),
  ).rejects.toMatchObject({ code: 'node_unreachable' });
  const second = await take();
  await expect(
    second.connected(node, { application: 'work' }, (client) => client.query('select 1 / 0')),
  ).rejects.toMatchObject({ code: '22012' });
  const third = await take();
  expect(
    await third.connected(
      node,
      { application: 'work' },
      async (client) => (await client.query('select')).rowCount,
    ),
  ).toBe(1);
  await (await take()).release();
}, 120_000);
