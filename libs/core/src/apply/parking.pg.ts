/**
 * Changes that can not be applied now, kept in the target: parked ones wait for a paused collection, a long lock or another row; dead letters
 * wait for an operator. Merging is commutative, so applying a parked change after later ones of its key is right.
 */
import type { DataChange } from '../changelog/change.ts';
import { keyText } from '../changelog/change.ts';
import { eventId } from '../changelog/codec.ts';
import type { Commit } from '../changelog/message.ts';
import { changeCodec } from '../changelog/schema.files.ts';
import { burySql } from '../dead-letters/events.ts';
import type { ApplySession } from './session.pg.ts';
import { arrayOf, int2Array, int8Array, textArray } from '../postgres/binary-array.ts';

/** A change on its way through a lane. */
export interface ApplyItem {
  readonly change: DataChange;
  readonly commit: Commit;
}

export interface ParkedChange {
  readonly id: string;
  readonly change: DataChange;
  readonly commit: Commit;
  readonly parkedAt: Date;
}

const byteaOid = 17;

/** The whole value is protobuf: what a Kafka consumer would have got. */
const encode = (item: ApplyItem): Buffer =>
  changeCodec().encode(item.change, item.commit, String(item.commit.origin)).value;

/** Under the number of the edge, which tries them again: a topic may still hold changes that were made under a number that its node has left. */
export async function park(
  session: ApplySession,
  origin: number,
  items: readonly ApplyItem[],
): Promise<void> {
  await session.run(
    'park',
    'insert into pgquorum.parked (origin, collection, key, payload) select * from unnest($1::smallint[], $2::text[], $3::text[], $4::bytea[])',
    [
      int2Array(items.map(() => origin)),
      textArray(items.map((item) => item.change.collection)),
      textArray(items.map((item) => keyText(item.change.key))),
      arrayOf(byteaOid, items.map(encode)),
    ],
  );
}

export interface PauseReason {
  readonly code: string;
  readonly sqlstate: string | null;
  readonly message: string;
}

export async function pauseCollection(
  session: ApplySession,
  collection: string,
  origin: number,
  reason: PauseReason,
): Promise<void> {
  await session.run(
    'pause',
    `insert into pgquorum.pause (collection, origin, code, sqlstate, reason) values ($1, $2, $3, $4, $5)
     on conflict (collection, origin) do update set code = excluded.code, sqlstate = excluded.sqlstate, reason = excluded.reason`,
    [collection, origin, reason.code, reason.sqlstate, reason.message],
  );
}

export async function deadLetter(
  session: ApplySession,
  log: string,
  item: ApplyItem,
  reason: PauseReason,
): Promise<void> {
  await session.run('dead', burySql, [
    item.commit.origin,
    log,
    String(item.commit.commitLsn),
    item.change.collection,
    keyText(item.change.key),
    reason.sqlstate,
    reason.message,
    encode(item),
    eventId(item.change, item.commit),
    reason.code,
    item.commit.commitTimeMs,
  ]);
}

export async function pausedCollections(session: ApplySession, origin: number): Promise<string[]> {
  const rows = await session.client.query<{ collection: string }>(
    'select collection from pgquorum.pause where origin = $1',
    [origin],
  );
  return rows.rows.map((row) => row.collection);
}

/** The oldest parked changes of a collection; `after` skips those that were tried in this round. */
export async function readParked(
  session: ApplySession,
  origin: number,
  after: string,
  limit: number,
): Promise<ParkedChange[]> {
  const rows = await session.client.query<{ id: string; payload: string; at: Date }>(
    `select id::text, encode(payload, 'base64') as payload, at from pgquorum.parked where origin = $1 and id > $2 order by id limit $3`,
    [origin, after, limit],
  );
  return rows.rows.map((row) => {
    const { change, ...rest } = changeCodec().decode(
      Buffer.from(row.payload, 'base64'),
      'application/protobuf',
    );
    return {
      id: row.id,
      change: change as DataChange,
      commit: { origin: rest.origin, commitTimeMs: rest.commitTimeMs, commitLsn: rest.commitLsn },
      parkedAt: row.at,
    };
  });
}

export const removeParked = (session: ApplySession, ids: readonly string[]): Promise<unknown> =>
  session.run('unpark', 'delete from pgquorum.parked where id = any($1::bigint[])', [
    int8Array(ids.map((id) => BigInt(id))),
  ]);
