/**
 * Streams of events for clients, each from one node by polling. When the node fails a stream goes on at another one and tells some events again:
 * delivery is at least once. A stream holds one page at most and no connection while its client is slow.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Deadline } from '../postgres/deadline.ts';
import { deadlineIn } from '../postgres/session.pg.ts';
import { isNodeFailure, onFirst, type Node, type Nodes } from '../topology/nodes.pg.ts';
import { eventView, type ClusterEvent, type EventId, type EventPlace, type EventType } from './event.ts';
import { placeAfter, placeNow, placeSince, readEvents } from './log.pg.ts';

const pollMs = 250;
const pageMax = 200;
const answerWithinMs = 5000;

export interface StreamOptions {
  /** The last event that the client has; null = from now on. */
  readonly after: EventId | null;
  readonly types: readonly EventType[];
  readonly signal: AbortSignal;
}

interface Reading {
  readonly node: Node;
  readonly place: EventPlace;
}

export class EventStreams {
  readonly #nodes: Nodes;

  constructor(nodes: Nodes) {
    this.#nodes = nodes;
  }

  /** Finds the place to begin at, which may be forgotten. The stream gives pages, empty ones while nothing happens, until the signal aborts. */
  async open(options: StreamOptions): Promise<AsyncGenerator<readonly ClusterEvent[], void>> {
    const { after } = options;
    const begin = await this.#begin(after, deadlineIn(answerWithinMs, options.signal));
    return this.#pages(begin, after?.atMs ?? Date.now(), options);
  }

  async #begin(after: EventId | null, deadline: Deadline): Promise<Reading> {
    const own = after === null ? undefined : this.#nodes.byName(after.node);
    if (after !== null && own?.isUp === true) {
      try {
        return { node: own, place: await own.run(deadline, (client) => placeAfter(client, after)) };
      } catch (cause) {
        if (!isNodeFailure(cause)) throw cause;
      }
    }
    return this.#beginAnywhere(after === null ? null : after.atMs, deadline);
  }

  #beginAnywhere(sinceMs: number | null, deadline: Deadline): Promise<Reading> {
    return onFirst(this.#nodes.anyOrder(), deadline, async (client, node) => ({
      node,
      place: await (sinceMs === null ? placeNow(client) : placeSince(client, sinceMs)),
    }));
  }

  async *#pages(
    begin: Reading,
    openedMs: number,
    { types, signal }: StreamOptions,
  ): AsyncGenerator<readonly ClusterEvent[], void> {
    let reading = begin;
    let lastMs = openedMs;
    while (!signal.aborted) {
      const { node, place } = reading;
      let events: readonly ClusterEvent[] = [];
      try {
        const page = await node.run(deadlineIn(answerWithinMs, signal), (client) =>
          readEvents(client, { after: place, types, limit: pageMax }),
        );
        reading = { node, place: page.next };
        lastMs = page.events.at(-1)?.atMs ?? lastMs;
        events = page.events.map((event) =>
          eventView(event, node.name, (number) => this.#nodes.nameOf(number)),
        );
      } catch (cause) {
        if (signal.aborted) return;
        if (!isNodeFailure(cause)) throw cause;
        reading = await this.#elsewhere(reading, lastMs, signal);
      }
      yield events;
      if (events.length < pageMax) await sleep(pollMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  }

  /** The same place again when no node answers: it is tried until the client goes. */
  async #elsewhere(reading: Reading, lastMs: number, signal: AbortSignal): Promise<Reading> {
    try {
      return await this.#beginAnywhere(lastMs, deadlineIn(answerWithinMs, signal));
    } catch (cause) {
      if (signal.aborted || isNodeFailure(cause) || this.#nodes.live.length === 0) return reading;
      throw cause;
    }
  }
}
