/**
 * What a node has lost and got back from others by copying goes out again in its own change log: those of its former numbers' writes that came back are published
 * like writes of its own, since some of the others may never have had them, and nobody else would ever send them.
 *
 * One shard at a time; versions are locked in key order, as users' statements do.
 */
import type pg from 'pg';
import { listCollections } from '../collections/catalog.pg.ts';
import { versionTable } from '../collections/trigger.ts';
import { quoteName } from '../postgres/identifier.ts';

/** How many keys went out again. */
export async function republishFormer(client: pg.Client, signal: AbortSignal): Promise<number> {
  const { rows } = await client.query<{ number: number }>(
    'select m.number from pgquorum.member m, pgquorum.node n where m.name = n.name and m.retired and m.number <> n.number',
  );
  const former = rows.map((row) => row.number);
  if (former.length === 0) return 0;
  let keysOut = 0;
  for (const { table } of await listCollections(client)) {
    const version = versionTable(table);
    const keys = table.key.map((column) => `v.${quoteName(column.name)}`).join(', ');
    const same = table.key.map(({ name }) => `v.${quoteName(name)} = l.${quoteName(name)}`).join(' and ');
    for (let shard = 0; shard < table.shards; shard += 1) {
      signal.throwIfAborted();
      // Operations on CRDT fields leave no version of their own: all that have such fields go out.
      const out = await client.query(
        `with l as materialized (select ${keys} from ${version} v where v.shard = $1 and v.applied and (v.origin = any($2::smallint[]) or v.crdt is not null) order by ${keys} for update)
         update ${version} v set applied = false from l where ${same}`,
        [shard, former],
      );
      keysOut += out.rowCount ?? 0;
    }
    await client.query(
      `update pgquorum.conflict c set applied = false where c.collection = $1 and c.applied and c.loser_origin = any($2::smallint[])`,
      [table.collection, former],
    );
  }
  return keysOut;
}
