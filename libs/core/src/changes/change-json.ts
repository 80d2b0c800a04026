/** A change as JSON text, as clients of the gateway's stream and CloudEvents read it. Pure. */
import { lsnText } from '../capture/lsn.ts';
import { keyText, type ConflictRecord, type DataChange, type RowImage } from '../changelog/change.ts';
import { eventId } from '../changelog/codec.ts';
import { jsonValue } from '../changelog/json-value.ts';
import type { Commit } from '../changelog/message.ts';
import type { Version } from '../versioning/version.ts';
import { clockView, versionView, type NameOfNode } from '../versioning/version-view.ts';

export type ChangeOperation = 'upsert' | 'delete' | 'conflict';

export const operationOf = (change: DataChange): ChangeOperation =>
  change.kind === 'conflict' ? 'conflict' : change.version.deleted ? 'delete' : 'upsert';

/** A JSON object whose values are JSON already. */
export const jsonObject = (fields: readonly (readonly [name: string, json: string])[]): string =>
  `{${fields.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(',')}}`;

export const rowJson = ({ table, values }: RowImage): string =>
  jsonObject(
    table.columns.map(({ name, type }, at) => [name, jsonValue(type, values[at] ?? null, 'plain')] as const),
  );

/** The order of two writes of a key is that of (rank, epoch, hlc, origin, counter), so all of them are there. */
const orderedVersion = (version: Version, nameOf: NameOfNode): object => ({
  ...versionView(
    {
      hlc: String(version.hlc),
      origin: version.dot.origin,
      counter: String(version.dot.counter),
      clock: version.clock,
    },
    nameOf,
  ),
  rank: version.rank,
  epoch: String(version.epoch),
  originNumber: version.dot.origin,
});

function recordJson(record: ConflictRecord, nameOf: NameOfNode): string {
  const { dot } = record.winner;
  return jsonObject([
    ['id', JSON.stringify(record.id)],
    ['kind', JSON.stringify(record.kind)],
    ['state', JSON.stringify(record.state)],
    ['loser', JSON.stringify(orderedVersion(record.loser, nameOf))],
    ['loserRow', record.row ?? 'null'],
    ['winner', JSON.stringify(`${dot.origin}.${dot.counter}`)],
    ['decidedBy', JSON.stringify(record.decidedBy)],
    ['reason', JSON.stringify(record.reason)],
  ]);
}

export interface ChangeContext {
  readonly commit: Commit;
  /** Name of the master whose log this is. */
  readonly origin: string;
  readonly nameOf: NameOfNode;
}

export function changeJson(change: DataChange, { commit, origin, nameOf }: ChangeContext): string {
  const fields: (readonly [string, string])[] = [
    ['id', JSON.stringify(eventId(change, commit))],
    ['op', JSON.stringify(operationOf(change))],
    ['collection', JSON.stringify(change.collection)],
    ['key', JSON.stringify(keyText(change.key))],
    ['shard', String(change.shard)],
    ['origin', JSON.stringify(origin)],
    ['committedAt', JSON.stringify(new Date(commit.commitTimeMs).toISOString())],
    ['lsn', JSON.stringify(lsnText(commit.commitLsn))],
  ];
  if (change.kind === 'conflict')
    return jsonObject([...fields, ['conflict', recordJson(change.record, nameOf)]]);
  fields.push(['version', JSON.stringify(orderedVersion(change.version, nameOf))]);
  if (change.seen !== null) fields.push(['seen', JSON.stringify(clockView(change.seen))]);
  fields.push(['row', change.row === null ? 'null' : rowJson(change.row)]);
  if (change.version.crdt !== null) fields.push(['crdt', JSON.stringify(change.version.crdt)]);
  if (change.losers.length > 0)
    fields.push(['conflicts', `[${change.losers.map((record) => recordJson(record, nameOf)).join(',')}]`]);
  return jsonObject(fields);
}
