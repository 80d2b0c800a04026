/** Streams of events, as many as a gateway serves at once; they end with it. */
import type { OnModuleDestroy } from '@nestjs/common';
import { parseEventId, parseEventTypes, type ClusterEvent } from '#core/events/event.ts';
import type { EventStreams } from '#core/events/stream.pg.ts';
import { PgquorumError } from '#core/errors/error.ts';

const streamsMax = 100;

export interface EventsCall {
  /** Empty = from now on. */
  readonly after: string;
  readonly types: string | undefined;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
}

export interface OpenStream {
  readonly pages: AsyncGenerator<readonly ClusterEvent[], void>;
  /** Aborted when the client is gone or the gateway ends. */
  readonly signal: AbortSignal;
}

export class EventOperations implements OnModuleDestroy {
  readonly #streams: EventStreams;
  readonly #end = new AbortController();
  #open = 0;

  constructor(streams: EventStreams) {
    this.#streams = streams;
  }

  async open({ after, types, signal: gone }: EventsCall): Promise<OpenStream> {
    if (this.#open >= streamsMax)
      throw new PgquorumError('overloaded', `${streamsMax} streams of events are open`);
    const signal = AbortSignal.any([gone, this.#end.signal]);
    const options = {
      after: after === '' ? null : parseEventId(after),
      types: parseEventTypes(types),
      signal,
    };
    this.#open += 1;
    let released = false;
    const release = (): void => {
      if (!released) this.#open -= 1;
      released = true;
    };
    signal.addEventListener('abort', release, { once: true });
    if (signal.aborted) release();
    try {
      return { pages: await this.#streams.open(options), signal };
    } catch (cause) {
      release();
      throw cause;
    }
  }

  onModuleDestroy(): void {
    this.#end.abort();
  }
}
