/** What must hold: of one key on one node at any time, and of all nodes once everything has arrived. Each check names its guarantee. */
import { dotText } from '#core/versioning/version.ts';
import { covers, type Clock } from '#core/versioning/clock.ts';
import { isOperation } from '#core/versioning/merge.ts';
import { valuesOf } from '#core/versioning/crdt/values.ts';
import { livesAlive, outcomeOf, valuesOf as fieldsOf, winnerOf, type ModelWrite } from './model.ts';
import { fieldTypes, type SimNode } from './node.ts';
import type { World } from './world.ts';

export class Violation extends Error {}

function hold(condition: boolean, where: string, what: () => string): void {
  if (!condition) throw new Violation(`${where}: ${what()}`);
}

const sorted = (ids: Iterable<string>): string => [...ids].sort().join(' ');
const clockText = (clock: Readonly<Record<string, number>>): string =>
  sorted(Object.entries(clock).map(([origin, counter]) => `${origin}.${counter}`));

/** The greatest counter of each origin among the writes. */
function vectorOf(ids: Iterable<string>): string {
  const vector: Record<string, number> = {};
  for (const id of ids) {
    const [origin, counter] = id.split('.') as [string, string];
    vector[origin] = Math.max(vector[origin] ?? 0, Number(counter));
  }
  return clockText(vector);
}

/** Has the write been purged with its key, as a delete that everyone had? */
const isPurgedIn = (node: SimNode, { version }: ModelWrite): boolean =>
  version.deleted && covers(node.horizon.clock, version.dot);

/** What was purged is not seen any more, and nothing else is missing. */
function isLessPurged(node: SimNode, seen: Clock, ids: Iterable<string>): boolean {
  const counters: Record<string, number> = {};
  for (const id of ids) {
    const [origin, counter] = id.split('.').map(Number) as [number, number];
    counters[origin] = Math.max(counters[origin] ?? 0, counter);
  }
  return (
    Object.keys(seen).every((origin) => seen[origin]! <= (counters[origin] ?? 0)) &&
    Object.keys(counters).every(
      (origin) => seen[origin] === counters[origin] || counters[origin]! <= (node.horizon.clock[origin] ?? 0),
    )
  );
}

/** Versions that came again, but for those that are in a record of a conflict: not every node has met every conflict. */
const returnedOf = (node: SimNode, key: string): string[] =>
  [...node.recordsOf(key).values()]
    .filter(({ kind, state }) => kind === 'returned' && state === 'restored')
    .map(({ loser }) => dotText(loser.dot));

export function checkKey(world: World, node: SimNode, key: string): void {
  const where = `key ${key} on node ${node.number}`;
  const model = world.model(node, key);
  const stored = node.versions.get(key);
  const expected = winnerOf(world.ledger, key, model.live);
  const winner = stored === undefined ? null : dotText(stored.version.dot);
  // The model forgets nothing; what was purged is a tombstone in it.
  if (stored === undefined && expected !== null && isPurgedIn(node, expected)) {
    hold(!node.rows.has(key), where, () => 'a deleted key is alive');
    return;
  }
  hold(
    winner === (expected?.id ?? null),
    where,
    () => `the winner is ${winner}, the naive model says ${expected?.id}`,
  );
  if (stored === undefined || expected === null) return;
  hold(
    clockText(stored.seen) === vectorOf(model.known) || isLessPurged(node, stored.seen, model.known),
    where,
    () => `seen is ${clockText(stored.seen)}, the naive model says ${vectorOf(model.known)}`,
  );
  hold(node.rows.has(key) === !stored.version.deleted, where, () =>
    stored.version.deleted ? 'a deleted key is alive' : 'a live key has no row',
  );
  hold(
    (node.rows.get(key) ?? null) === expected.row,
    where,
    () => `the row is ${node.rows.get(key)}, its write made ${expected.row}`,
  );
  for (const id of model.known) {
    if (world.ledger.operationsOf(key).has(id)) continue;
    const write = world.ledger.get(key, id);
    hold(
      write.id === winner || !write.history.has(winner!),
      where,
      () => `G3: ${winner} stands although ${id}, which had seen it, was merged`,
    );
  }
  const open = node.openRecords(key).filter(({ loser }) => !isOperation(loser));
  const losers = [...model.live].filter((id) => id !== expected.id);
  hold(
    sorted(open.map((record) => dotText(record.loser.dot))) === sorted(losers),
    where,
    () =>
      `open records are [${sorted(open.map((record) => dotText(record.loser.dot)))}], the naive model says [${sorted(losers)}]`,
  );
  for (const record of node.recordsOf(key).values()) {
    if (isOperation(record.loser)) continue;
    const write = world.ledger.get(key, dotText(record.loser.dot));
    hold(
      record.row === write.row,
      where,
      () => `G4: the record of ${write.id} holds the row ${record.row}, the write made ${write.row}`,
    );
  }
  if (world.oneWriter)
    hold(
      [...node.recordsOf(key).values()].every(({ kind }) => kind === 'returned' || kind === 'replaced'),
      where,
      () => 'a key with one writer has a conflict record',
    );
}

export function checkEnd(world: World): void {
  for (const key of world.keys) {
    const writes = [...world.ledger.of(key).values()];
    const outcome = outcomeOf(writes);
    const first = world.nodes[0]!;
    for (const node of world.nodes) {
      checkKey(world, node, key);
      const where = `key ${key} on node ${node.number} at the end`;
      if (outcome.winner === null) continue;
      const stored = node.versions.get(key);
      const alike = node.isPurged(key) || first.isPurged(key) ? undefined : first.versions.get(key);
      hold(
        stored === undefined || alike === undefined || clockText(stored.seen) === clockText(alike.seen),
        where,
        () => `G2: seen is ${clockText(stored!.seen)}, on node ${first.number} ${clockText(alike!.seen)}`,
      );
      hold(
        lastStates(node, key) === lastStates(first, key),
        where,
        () =>
          `G2: last states are [${lastStates(node, key)}], on node ${first.number} [${lastStates(first, key)}]`,
      );
      hold(
        sorted(returnedOf(node, key)) === sorted(returnedOf(first, key)),
        where,
        () =>
          `G2: returned are [${sorted(returnedOf(node, key))}], on node ${first.number} [${sorted(returnedOf(first, key))}]`,
      );
      if (stored === undefined && isPurgedIn(node, outcome.winner)) continue;
      hold(
        stored !== undefined && dotText(stored.version.dot) === outcome.winner.id,
        where,
        () =>
          `G2: the winner is ${stored && dotText(stored.version.dot)}, of all writes it should be ${outcome.winner!.id}`,
      );
      const all = [...writes.map((write) => write.id), ...world.ledger.operationsOf(key).keys()];
      hold(
        clockText(stored!.seen) === vectorOf(all) || isLessPurged(node, stored!.seen, all),
        where,
        () => `G2: seen is ${clockText(stored!.seen)}, not all writes and operations`,
      );
      const closed = new Set(
        [...node.recordsOf(key).values()]
          .filter((record) => record.state !== 'open')
          .map((record) => dotText(record.loser.dot)),
      );
      const expectedOpen = sorted(outcome.losers.map((write) => write.id).filter((id) => !closed.has(id)));
      const open = sorted(
        node
          .openRecords(key)
          .filter(({ loser }) => !isOperation(loser))
          .map((record) => dotText(record.loser.dot)),
      );
      hold(
        open === expectedOpen,
        where,
        () => `G4: open records are [${open}], of all writes they should be [${expectedOpen}]`,
      );
      for (const id of world.closedByWrite.get(key) ?? [])
        hold(
          closed.has(id),
          where,
          () => `G4: the loser ${id} was closed by a write or a call, but has no closed record here`,
        );
      checkFields(world, node, key);
      for (const write of writes)
        hold(
          accounted(world, node, key, write),
          where,
          () => `G4: the write ${write.id} is not current, nor overwritten, nor in a record`,
        );
    }
  }
}

/** Counters are the sums of their operations, sets hold what nobody removed who had seen it, and no operation is lost in silence. */
function checkFields(world: World, node: SimNode, key: string): void {
  const where = `key ${key} on node ${node.number} at the end`;
  const { version } = node.versions.get(key)!;
  const expected = fieldsOf(world.ledger, key);
  if (!version.deleted) {
    const found = valuesOf(version.crdt, fieldTypes);
    hold(
      JSON.stringify(found) === JSON.stringify(expected),
      where,
      () =>
        `the fields are ${JSON.stringify(found)}, of all operations they should be ${JSON.stringify(expected)}`,
    );
  }
  const alive = livesAlive(world.ledger, key);
  const writes = [...world.ledger.of(key).values()];
  const records = [...node.recordsOf(key).values()].filter(({ loser }) => isOperation(loser));
  for (const { id, life } of world.ledger.operationsOf(key).values()) {
    const [origin, counter] = id.split('.').map(Number) as [number, number];
    hold(
      (!version.deleted && alive.has(life)) ||
        writes.some((write) => write.history.has(id)) ||
        records.some(({ loser }) => loser.dot.origin === origin && loser.dot.counter >= counter),
      where,
      () => `G4: the operation ${id} does not count, was not seen by a write, and is in no record`,
    );
  }
}

/** Of all records that something is left to do about, or that a call has closed. */
const lastStates = (node: SimNode, key: string): string =>
  sorted(
    [...node.recordsOf(key).values()]
      .filter((record) => record.state !== 'superseded')
      .map(
        (record) =>
          `${dotText(record.loser.dot)} ${record.state} ${record.state === 'open' ? '' : `${record.stateHlc} ${record.stateOrigin}`}`,
      ),
  );

/** Current, seen by another write, kept in a record, or one write with one that is. */
function accounted(world: World, node: SimNode, key: string, write: ModelWrite): boolean {
  const writes = [...world.ledger.of(key).values()];
  const tries =
    write.version.request === null
      ? [write]
      : writes.filter((other) => other.version.request === write.version.request);
  return tries.some(
    (one) =>
      node.isWinner(key, one.version.dot) ||
      node.recordsOf(key).has(one.id) ||
      writes.some((other) => other !== one && other.history.has(one.id)),
  );
}
