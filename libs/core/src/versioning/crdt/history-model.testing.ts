/**
 * What the CRDT fields of a key should show on a node that has seen certain events, worked out from all of them anew: the naive way, which keeps
 * everything for ever and knows nothing of dots in sets, cells or folding.
 */
import { dotText } from '../version.ts';
import type { CrdtHistory, Event } from './history.testing.ts';
import type { Operation } from './operation.ts';
import { sortElements, type Element } from './or-set.ts';

type Operated = Event & { readonly what: { readonly kind: 'operate' } };

export function modelValues(history: CrdtHistory, known: ReadonlySet<number>): Record<string, unknown> {
  const events = history.events.filter(({ id }) => known.has(id));
  const alive = inLives(events);
  return {
    likes: total(alive, 'likes'),
    stock: total(alive, 'stock'),
    title: title(history, alive),
    tags: sortElements(
      new Set(alive.flatMap((event) => added(events, event).map((one) => JSON.stringify(one)))),
    ),
  };
}

/** Operations on lives that no insert has taken the place of: an insert does that to all that its node had seen. */
function inLives(events: readonly Event[]): Operated[] {
  const inserts = events.filter(({ what }) => what.kind === 'insert');
  const lives = new Set(
    inserts.filter(({ id }) => !inserts.some((later) => later.seen.has(id))).map(({ dot }) => dotText(dot)),
  );
  if (inserts.length === 0) lives.add('0.0');
  return events.filter(
    (event): event is Operated => event.what.kind === 'operate' && lives.has(event.what.life),
  );
}

/** Each request once, wherever and however often it was carried out. */
function total(events: readonly Operated[], field: string): number {
  const counted = new Set<string>();
  return events.reduce((sum, { what: { request, operations } }) => {
    if (request !== null && counted.has(request)) return sum;
    if (request !== null) counted.add(request);
    return sum + amountOf(operations[field]);
  }, 0);
}

function amountOf(operation: Operation | undefined): number {
  if (operation === undefined) return 0;
  return 'increment' in operation ? operation.increment : 'decrement' in operation ? -operation.decrement : 0;
}

/** What an event added and no removal that has seen the event took away. */
function added(events: readonly Event[], { id, what }: Operated): Element[] {
  return Object.values(what.operations).flatMap((operation) =>
    'add' in operation && !events.some((later) => later.seen.has(id) && removes(later, operation.add))
      ? [operation.add]
      : [],
  );
}

const removes = ({ what }: Event, element: Element): boolean =>
  what.kind === 'operate' &&
  Object.values(what.operations).some((operation) => 'remove' in operation && operation.remove === element);

function title(history: CrdtHistory, events: readonly Operated[]): unknown {
  const times = titleTimes(history);
  const [last] = events
    .filter(({ what }) => 'title' in what.operations)
    .sort((a, b) => {
      const [x, y] = [times.get(a.id)!, times.get(b.id)!];
      return x === y ? b.dot.origin - a.dot.origin : x < y ? 1 : -1;
    });
  const operation = last?.what.operations['title'];
  return operation !== undefined && 'set' in operation ? operation.set : null;
}

/** When each title was set: greater than all that its node showed or could have shown. */
function titleTimes(history: CrdtHistory): Map<number, bigint> {
  const times = new Map<number, bigint>();
  for (const { id, seen, what } of history.events) {
    if (what.kind !== 'operate' || !('title' in what.operations)) continue;
    const shown = inLives(history.events.filter((earlier) => seen.has(earlier.id)));
    const earlier = shown.flatMap((one) => times.get(one.id) ?? []);
    times.set(
      id,
      earlier.reduce((greatest, time) => (time >= greatest ? time + 1n : greatest), what.hlc),
    );
  }
  return times;
}
