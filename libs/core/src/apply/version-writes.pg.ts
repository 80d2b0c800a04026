/** Writes the versions of a batch by compare-and-set against what the plan was made from. */
import { sameClock } from '../versioning/clock.ts';
import {
  boolArray,
  int2Array,
  int4Array,
  int8Array,
  jsonbArray,
  uuidArray,
} from '../postgres/binary-array.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import type { CollectionStatements } from './collection-statements.pg.ts';
import type { Planned } from './key-work.ts';
import { textRows } from './copy-format.ts';
import { LocalWriteSlippedIn } from './outcomes.ts';
import * as sql from './statements.ts';

/** Sends the statements; one rejects with LocalWriteSlippedIn when a version was not what it was planned from. */
export function writeVersions(
  statements: CollectionStatements,
  planned: readonly Planned[],
  sent: Promise<unknown>[],
  { copying }: { readonly copying: boolean },
): void {
  const touched = planned.filter(
    ({ plan }) => plan.winner !== null || plan.seen !== null || plan.crdt !== undefined,
  );
  const known = touched.filter(({ local }) => local !== undefined);
  const fresh = touched.filter(({ local }) => local === undefined);
  if (known.length > 0) {
    const values = [
      ...versionArrays(statements, known),
      int2Array(known.map(({ local }) => local!.version.dot.origin)),
      int8Array(known.map(({ local }) => local!.version.dot.counter)),
      jsonbArray(known.map(({ local }) => local!.seenText)),
    ];
    sent.push(
      statements.run('updv', sql.updateVersionsSql(statements.table), values).catch(slipped(statements)),
    );
  }
  if (fresh.length > 0 && copying) sent.push(copyVersions(statements, fresh));
  else if (fresh.length > 0) {
    const values = [...versionArrays(statements, fresh), int4Array(fresh.map(({ work }) => work.shard))];
    sent.push(
      statements.run('insv', sql.insertVersionsSql(statements.table), values).catch(slipped(statements)),
    );
  }
}

/** The statements fail with this themselves when they do not find all versions as they were read: what is sent after them, the commit too, then does nothing. */
const divisionByZero = '22012';

const slipped =
  ({ table }: CollectionStatements) =>
  (cause: unknown): never => {
    if (sqlStateOf(cause) === divisionByZero)
      throw new LocalWriteSlippedIn(`versions of ${table.collection} changed while planning`);
    throw cause;
  };

/** The columns of copyVersionsSql. */
function copyVersions(statements: CollectionStatements, fresh: readonly Planned[]): Promise<unknown> {
  const rows = fresh.map((one) => {
    const { version, clock, seen, crdt } = written(one);
    return [
      ...one.work.key,
      String(version.rank),
      String(version.epoch),
      String(version.hlc),
      String(version.dot.origin),
      String(version.dot.counter),
      clock,
      seen,
      version.deleted ? 't' : 'f',
      version.request,
      crdt,
      String(one.work.shard),
      't',
    ];
  });
  return statements.session.copy(sql.copyVersionsSql(statements.table), textRows(rows));
}

/** The version that is to stand, with the texts of what is JSON in it. */
function written({ local, plan }: Planned) {
  const version = plan.winner?.version ?? local!.version;
  const seen = plan.seen ?? local!.seen;
  const crdt = plan.crdt === undefined ? version.crdt : plan.crdt;
  return {
    version,
    clock: JSON.stringify(version.clock),
    seen: sameClock(seen, version.clock) ? null : JSON.stringify(seen),
    crdt: crdt === null ? null : JSON.stringify(crdt),
  };
}

function versionArrays(statements: CollectionStatements, planned: readonly Planned[]): Buffer[] {
  const states = planned.map(written);
  return [
    ...statements.keyArrays(planned.map(({ work }) => work.key)),
    int2Array(states.map(({ version }) => version.rank)),
    int8Array(states.map(({ version }) => version.epoch)),
    int8Array(states.map(({ version }) => version.hlc)),
    int2Array(states.map(({ version }) => version.dot.origin)),
    int8Array(states.map(({ version }) => version.dot.counter)),
    jsonbArray(states.map(({ clock }) => clock)),
    jsonbArray(states.map(({ seen }) => seen)),
    boolArray(states.map(({ version }) => version.deleted)),
    uuidArray(states.map(({ version }) => version.request)),
    jsonbArray(states.map(({ crdt }) => crdt)),
  ];
}
