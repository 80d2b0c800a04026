/**
 * With Kafka: notices that the slot which feeds an origin's topic was made anew. The topic goes on as if nothing had happened, but what was committed
 * in between never came to it: all who read it have to copy.
 */
import type pg from 'pg';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { isUnreachable } from '../postgres/sqlstate.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { beginResync, saveFed, type SourceId, type SourceState } from './store.pg.ts';

const lookEveryMs = 2000;

export class FedCheck {
  readonly #origin: ClusterNode;
  readonly #id: SourceId;
  #client: pg.Client | null = null;
  #lookedMs = -Infinity;

  constructor(origin: ClusterNode, id: SourceId) {
    this.#origin = origin;
    this.#id = id;
  }

  /** An origin that can not be reached is asked again later: it feeds nothing meanwhile. */
  async look(control: pg.Client, state: SourceState | null): Promise<void> {
    if (state === null || performance.now() - this.#lookedMs < lookEveryMs) return;
    this.#lookedMs = performance.now();
    const feed = await this.#feed();
    if (feed === null || feed.generation === state.fed) return;
    // Who looks for the first time has missed something too, if the slot is not the one of the beginning.
    if (state.fed !== '' || feed.remade) {
      const reason = `the slot that feeds the topic of ${this.#origin.name} was made anew`;
      const begun = await beginResync(control, {
        ...this.#id,
        reason,
        phase: 'copying',
        synced: null,
        again: true,
      });
      // Where a position is being noted, who notes it looks at what feeds the topic too.
      if (!begun) return;
    }
    await saveFed(control, this.#id, feed.generation);
  }

  async #feed(): Promise<{ readonly generation: string; readonly remade: boolean } | null> {
    try {
      this.#client ??= await connect(this.#origin.address, {
        application: 'pgquorum resync',
        connectTimeoutMs: 2000,
        answerWithinMs: 5000,
      });
      const { rows } = await this.#client.query<{ generation: string; remade: boolean }>(
        `select generation, synced > 0 as remade from pgquorum.source where log = 'capture' and state = 'ready'`,
      );
      return rows[0] ?? null;
    } catch (cause) {
      await this.close();
      if (isUnreachable(cause)) return null;
      throw cause;
    }
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = null;
    if (client !== null) await closeClient(client);
  }
}
