import type { CollectionDefinition } from '#core/collections/definition.ts';
import { WalChangeLog } from '#core/changelog/wal.pg.ts';
import { foundTestCluster } from '#core/testing/cluster.pg.ts';
import { edgeSlot } from '#core/topology/names.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import { changeLogContract, type ChangeLogHarness } from './change-log.ts';
import type { WriteOp } from './write-history.ts';

const collection = 'docs';
const aheadBytesMax = 1024 * 1024;
/** One read of the socket is taken whole, and the message that ends in it. */
const oneReadMax = 128 * 1024;
/** Small, so that the suite's large transaction is re-read in parts. */
const transactionBytesMax = 2 * 1024 * 1024;
const definition: Partial<CollectionDefinition> = { dimension: 1 };

async function openWalLog(): Promise<ChangeLogHarness> {
  const cluster = await foundTestCluster({ count: 1 });
  await cluster.create(collection, definition);
  const [node] = cluster.nodes;
  const slot = edgeSlot(cluster.cluster, node!.number, 2 as NodeNumber);
  const makeSlot = async (): Promise<bigint> => {
    const [made] = await cluster.query<{ position: string }>(
      0,
      `select (lsn - '0/0'::pg_lsn)::bigint::text as position from pg_create_logical_replication_slot($1, 'pgoutput')`,
      [slot],
    );
    return BigInt(made!.position);
  };
  const [publication] = await cluster.query<{ oid: number }>(0, `select oid from pg_publication`);
  const beginning = await makeSlot();
  const writer = await cluster.client(0);
  let writes = 0;
  return {
    collection,
    write: async (ops) => {
      writes += 1;
      await writer.query('begin');
      await writer.query(
        `insert into ${collection} (id, embedding, metadata)
         select k, '[1]', jsonb_build_object('write', $3::int, 'body', repeat('x', size)) from unnest($1::text[], $2::int[]) as op (k, size)
         on conflict (id) do update set metadata = excluded.metadata`,
        columnsOf(ops.filter(({ kind }) => kind === 'put')).concat(writes),
      );
      const [gone] = columnsOf(ops.filter(({ kind }) => kind === 'delete'));
      await writer.query(`delete from ${collection} where id = any($1::text[])`, [gone]);
      await writer.query('commit');
    },
    openReader: async () =>
      new WalChangeLog({
        node: node!.address,
        origin: node!.number,
        slot,
        publication: publication!.oid,
        transactionBytesMax,
        aheadBytesMax,
      }),
    beginning: async () => new Map([[0, beginning]]),
    forget: async () => {
      await cluster.dropSlot(0, slot);
      await makeSlot();
    },
    bytesAhead: (reader) => (reader as WalChangeLog).bytesAhead,
    bytesAheadMax: aheadBytesMax + oneReadMax,
    close: () => cluster[Symbol.asyncDispose](),
  };
}

const columnsOf = (ops: readonly WriteOp[]): unknown[] => [
  ops.map(({ key }) => key),
  ops.map(({ size }) => size ?? 10),
];

changeLogContract('the WAL', { readers: 'one', open: openWalLog });
