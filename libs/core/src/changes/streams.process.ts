/**
 * The changes of a cluster for clients: of all origins, each in the order of its log, in one stream whose place can be kept and come back with. An
 * origin that cannot be read now is waited for while the others go on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LogBatch, Position } from '../changelog/change.ts';
import { FetchQueue } from '../changelog/fetch-queue.ts';
import { isPgquorumError, PgquorumError } from '../errors/error.ts';
import { isConnectionError, sqlStateOf } from '../postgres/sqlstate.ts';
import type { ChangeChannel } from './channel.process.ts';
import { checkHeld, parsePlace, type HeldLog, type OriginPlace, type Place } from './place.ts';

export interface ChangeStep {
  /** Null where nothing came for a while. */
  readonly batch: LogBatch | null;
  /** Name of the batch's origin. */
  readonly origin: string;
  /** Everything up to here has been handed out, this batch included. */
  readonly place: Place;
  /** Origins that cannot be read at the moment, and why. */
  readonly waiting: ReadonlyMap<string, string>;
}

export interface OpenChanges {
  /** Where it begins. */
  readonly place: Place;
  readonly steps: AsyncGenerator<ChangeStep, void>;
}

const silenceMs = 2000;
const retryMs = 1000;

/** Beginning with what the logs hold: `now` after it, `earliest` with all of it. */
export const fromWords = ['now', 'earliest'] as const;

export class ChangeStreams {
  #channels: readonly ChangeChannel[];
  readonly #open = new Set<FetchQueue<{ origin: string; batch: LogBatch | null }>>();
  readonly #closing = new Set<Promise<void>>();

  constructor(channels: readonly ChangeChannel[]) {
    this.#channels = channels;
  }

  /** Nodes came or went. A stream that is open knows nothing of their changes: it ends, as it would if it came back. */
  replace(channels: readonly ChangeChannel[]): void {
    const before = this.#channels;
    this.#channels = channels;
    for (const queue of this.#open)
      queue.fail(
        new PgquorumError('position_expired', 'the nodes are not those that they were when the stream began'),
      );
    const closing = closeAll(before).finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  /** `from` is a place's text, `now` or `earliest`. Throws `position_expired` when the place is known to be gone. */
  async open({ from, signal }: { from: string; signal: AbortSignal }): Promise<OpenChanges> {
    const place =
      from === 'now' || from === 'earliest'
        ? await this.#placeNow(from)
        : await this.#placeAgain(parsePlace(from));
    return { place, steps: this.#steps(place, signal) };
  }

  /** Needs every origin: without a position of one of them there would be nothing to come back with. */
  async #placeNow(from: (typeof fromWords)[number]): Promise<Place> {
    const places = await Promise.all(
      this.#channels.map(async (channel): Promise<[string, OriginPlace]> => {
        const { generation, first, end } = await channel.source.held().catch((cause: unknown) => {
          if (!mayPass(cause)) throw cause;
          throw new PgquorumError(
            'replicas_unavailable',
            `the changes of ${channel.origin} can not be read`,
            {
              cause,
            },
          );
        });
        return [channel.origin, { generation, positions: from === 'now' ? end : first }];
      }),
    );
    return new Map(places);
  }

  async #placeAgain(place: Place): Promise<Place> {
    const origins = this.#channels.map(({ origin }) => origin);
    const gone = [...place.keys()].filter((origin) => !origins.includes(origin));
    const fresh = origins.filter((origin) => !place.has(origin));
    if (gone.length > 0 || fresh.length > 0)
      throw new PgquorumError(
        'position_expired',
        `the nodes are not those that they were: ${[...gone, ...fresh].join(', ')} came or went`,
      );
    await Promise.all(
      this.#channels.map(async ({ origin, source }) => {
        const held = await source.held().catch((cause: unknown): HeldLog | null => {
          if (mayPass(cause)) return null; // looked at again when it can be read
          throw cause;
        });
        if (held !== null) checkHeld(origin, place.get(origin)!, held);
      }),
    );
    return place;
  }

  async *#steps(begin: Place, signal: AbortSignal): AsyncGenerator<ChangeStep, void> {
    const queue = new FetchQueue<{ origin: string; batch: LogBatch | null }>(1);
    this.#open.add(queue);
    const waiting = new Map<string, string>();
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const end = (): void => queue.end();
    either.addEventListener('abort', end, { once: true });
    if (either.aborted) end();
    const pumps = this.#channels.map((channel) =>
      pump({ channel, place: begin.get(channel.origin)!, queue, waiting, signal: either }),
    );
    const silence = setInterval(() => {
      if (queue.bytes === 0) queue.put({ origin: '', batch: null }, 1);
    }, silenceMs);
    const place = new Map(begin);
    try {
      for (;;) {
        const taken = await queue.take();
        if (taken === null) return;
        const { origin, batch } = taken.value;
        if (batch !== null && batch.position !== null) {
          const { generation, positions } = place.get(origin)!;
          place.set(origin, { generation, positions: advanced(positions, batch.stream, batch.position) });
        }
        yield { origin, batch, place, waiting };
        taken.release();
      }
    } finally {
      clearInterval(silence);
      this.#open.delete(queue);
      stop.abort();
      await Promise.all(pumps);
    }
  }

  async close(): Promise<void> {
    await Promise.all([closeAll(this.#channels), ...this.#closing]);
  }
}

const closeAll = async (channels: readonly ChangeChannel[]): Promise<void> => {
  await Promise.all(channels.map((channel) => channel.close()));
};

const advanced = (
  positions: ReadonlyMap<number, Position>,
  stream: number,
  position: Position,
): ReadonlyMap<number, Position> => new Map(positions).set(stream, position);

interface Pump {
  readonly channel: ChangeChannel;
  readonly place: OriginPlace;
  readonly queue: FetchQueue<{ origin: string; batch: LogBatch | null }>;
  readonly waiting: Map<string, string>;
  readonly signal: AbortSignal;
}

/** Never rejects: what cannot be waited out goes to the stream. */
async function pump({ channel, place, queue, waiting, signal }: Pump): Promise<void> {
  const { origin } = channel;
  const held = new Map(place.positions);
  while (!signal.aborted) {
    try {
      checkHeld(origin, { generation: place.generation, positions: held }, await channel.source.held());
      for await (const batch of channel.follow({ generation: place.generation, positions: held }, signal)) {
        waiting.delete(origin);
        await queue.room();
        if (signal.aborted) return;
        queue.put({ origin, batch }, 1);
        if (batch.position !== null) held.set(batch.stream, batch.position);
      }
    } catch (cause) {
      if (signal.aborted) return;
      if (isGone(cause)) return queue.fail(asExpired(origin, cause));
      waiting.set(origin, isPgquorumError(cause) ? cause.detail : 'it can not be reached');
      await sleep(retryMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  }
}

/** Everything else is waited out and told: a connection that breaks shows in many ways, and the position stays good. */
const isGone = (cause: unknown): boolean =>
  isPgquorumError(cause) && (cause.code === 'position_lost' || cause.code === 'position_expired');

/** The node or Kafka cannot be reached now, or has no room: insufficient resources, being shut down, an object in use. */
function mayPass(cause: unknown): boolean {
  if (isPgquorumError(cause)) return cause.entry.retry;
  const state = sqlStateOf(cause);
  return isConnectionError(cause) || (state !== null && /^(53|57|55)/.test(state));
}

function asExpired(origin: string, cause: unknown): Error {
  if (isPgquorumError(cause) && cause.code === 'position_lost')
    return new PgquorumError('position_expired', `the changes of ${origin}: ${cause.detail}`, { cause });
  return cause instanceof Error ? cause : new Error(String(cause));
}
