/** Streams of events, as many as a gateway serves at once; they end with it. */
import type { OnModuleDestroy } from '@nestjs/common';
import { parseEventId, parseEventTypes, type ClusterEvent } from '#core/events/event.ts';
import type { EventStreams } from '#core/events/stream.pg.ts';
import { OpenStreams } from './open-streams.ts';

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
  readonly #open = new OpenStreams('events');

  constructor(streams: EventStreams) {
    this.#streams = streams;
  }

  async open({ after, types, signal: gone }: EventsCall): Promise<OpenStream> {
    return this.#open.open(gone, async (signal) => {
      const options = {
        after: after === '' ? null : parseEventId(after),
        types: parseEventTypes(types),
        signal,
      };
      return { pages: await this.#streams.open(options), signal };
    });
  }

  onModuleDestroy(): void {
    this.#open.end();
  }
}
