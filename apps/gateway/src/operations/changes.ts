/** Streams of the changes of a collection, as many as a gateway serves at once; they end with it. */
import type { OnApplicationShutdown, OnModuleDestroy } from '@nestjs/common';
import type { ChangeStreams, ChangeStep } from '#core/changes/streams.process.ts';
import type { Place } from '#core/changes/place.ts';
import type { DataChange } from '#core/changelog/change.ts';
import type { CollectionDirectory } from '#core/collections/directory.pg.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';
import { OpenStreams } from './open-streams.ts';

export interface ChangesCall {
  readonly collection: string;
  /** A position that a stream has given, `now` or `earliest`. */
  readonly from: string;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
}

/** The changes of the collection in one batch, none where there was nothing for it. */
export interface CollectionStep extends ChangeStep {
  readonly changes: readonly DataChange[];
}

export interface OpenChangeStream {
  readonly place: Place;
  readonly steps: AsyncGenerator<CollectionStep, void>;
  /** Aborted when the client is gone or the gateway ends. */
  readonly signal: AbortSignal;
}

export class ChangeOperations implements OnModuleDestroy, OnApplicationShutdown {
  readonly #streams: ChangeStreams;
  readonly #directory: CollectionDirectory;
  readonly #open = new OpenStreams('changes');

  constructor({ streams, directory }: { streams: ChangeStreams; directory: CollectionDirectory }) {
    this.#streams = streams;
    this.#directory = directory;
  }

  async open({ collection, from, signal: gone }: ChangesCall): Promise<OpenChangeStream> {
    return this.#open.open(gone, async (signal) => {
      await this.#directory.get(collection, deadlineIn(defaultTimeoutMs, signal));
      const { place, steps } = await this.#streams.open({ from, signal });
      return { place, steps: ofCollection(steps, collection), signal };
    });
  }

  onModuleDestroy(): void {
    this.#open.end();
  }

  /** Once nobody listens any more. */
  async onApplicationShutdown(): Promise<void> {
    await this.#streams.close();
  }
}

async function* ofCollection(
  steps: AsyncGenerator<ChangeStep, void>,
  collection: string,
): AsyncGenerator<CollectionStep, void> {
  for await (const step of steps) {
    const changes = (step.batch?.changes ?? []).filter(
      (change): change is DataChange => change.kind !== 'heartbeat' && change.collection === collection,
    );
    yield { ...step, changes };
  }
}
