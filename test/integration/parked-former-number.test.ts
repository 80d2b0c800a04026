/** A topic may hold changes that were made under a number that its node has left since. Those that are parked are tried again like all others. */
import { expect, test } from '@jest/globals';
import type { ChangeLogReader } from '#core/changelog/port.ts';
import { foundTestCluster, openWal } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import type { NodeNumber } from '#core/versioning/version.ts';

const former = 9 as NodeNumber;

/** The log of a node that had another number when it wrote. */
const ofFormer = (reader: ChangeLogReader): ChangeLogReader => ({
  origin: reader.origin,
  confirm: (stream, position) => reader.confirm(stream, position),
  positions: () => reader.positions(),
  close: () => reader.close(),
  async *read(options) {
    for await (const batch of reader.read(options)) yield { ...batch, origin: former };
  },
});

test('a change of a former number that waits for a locked row is applied once the row is free', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs'] });
  const [origin] = cluster.nodes;
  cluster.edge(0, 1, { openReader: (start) => Promise.resolve(ofFormer(openWal(origin!, start))) });
  const said = async () =>
    (await cluster.query<{ metadata: unknown }>(1, `select metadata from docs where id = 'k'`))[0]?.metadata;
  const parked = () => cluster.query<{ origin: number }>(1, 'select origin from pgquorum.parked');
  await cluster.query(0, `insert into docs values ('k', '[1,2,3]', '{"said":"first"}')`);
  await eventually('the row has come', async () => (await said()) !== undefined);

  const user = await cluster.client(1);
  await user.query(`begin; select from docs where id = 'k' for update`);
  await cluster.query(0, `update docs set metadata = '{"said":"second"}' where id = 'k'`);
  expect(await eventually('it is parked', async () => (await parked())[0])).toEqual({
    origin: origin!.number,
  });
  await user.query('commit');
  await eventually('nothing is parked', async () => (await parked()).length === 0);
  expect(await said()).toEqual({ said: 'second' });
}, 180_000);
