/**
 * What happens in a cluster, as a stream of events. Each node writes down what it comes to know of in the order in which it does; a stream is one
 * node's. An event's id is its place on that node with its time, so that a stream can be resumed, on another node by the time. A new type of event is
 * a row in pgquorum.event of that type, and its name here. Pure.
 */
import { invalid, oneOf } from '../requests/fields.ts';
import type { NameOfNode } from '../versioning/version-view.ts';

export const eventTypes = [
  'conflict',
  'dead-letter',
  'difference',
  'lag-exceeded',
  'replica-status',
  'resync',
  'synced',
  'throttled',
] as const;
export type EventType = (typeof eventTypes)[number];

/** A place between events of one node: after the one with this transaction and arrival. Texts, since both have 64 bits. */
export interface EventPlace {
  readonly xid: string;
  readonly arrival: string;
}

export interface EventId extends EventPlace {
  readonly node: string;
  readonly atMs: number;
}

export interface ClusterEvent {
  readonly id: string;
  readonly type: EventType;
  /** When the node came to know of it. */
  readonly at: string;
  readonly node: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** A row of pgquorum.event. */
export interface StoredEvent extends EventPlace {
  readonly atMs: number;
  readonly type: EventType;
  readonly body: Readonly<Record<string, unknown>>;
}

const idPattern = /^([a-z][a-z0-9_-]{0,31})\.(\d{1,20})\.(\d{1,19})\.(\d{1,15})$/;

export function parseEventId(text: string): EventId {
  const match = idPattern.exec(text);
  if (match === null) throw invalid('Last-Event-ID: is not the id of an event');
  return { node: match[1]!, xid: match[2]!, arrival: match[3]!, atMs: Number(match[4]) };
}

/** A comma list; none = all. */
export const parseEventTypes = (text: string | undefined): readonly EventType[] =>
  text === undefined || text === ''
    ? eventTypes
    : text.split(',').map((type) => oneOf('types', type, eventTypes));

export const eventView = (event: StoredEvent, node: string, nameOf: NameOfNode): ClusterEvent => ({
  id: `${node}.${event.xid}.${event.arrival}.${event.atMs}`,
  type: event.type,
  at: new Date(event.atMs).toISOString(),
  node,
  body: named(event.body, nameOf),
});

/** Fields that are a node's number in the database and its name outside. */
const nodeFields: ReadonlySet<string> = new Set(['stateOrigin', 'origin', 'from', 'to', 'replica']);

const named = (body: StoredEvent['body'], nameOf: NameOfNode): StoredEvent['body'] =>
  Object.fromEntries(
    Object.entries(body).map(([field, value]) => [
      field,
      typeof value === 'number' && nodeFields.has(field) ? nameOf(value) : value,
    ]),
  );
