/** The verbs on dead letters. */
import { parseLetterQuery } from '#core/dead-letters/query.ts';
import type { DeadLetterReplay, ReplayResult } from '#core/dead-letters/replay.pg.ts';
import type { DeadLetterStore, InspectedLetter, LetterPage } from '#core/dead-letters/store.pg.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';

export class DeadLetterOperations {
  readonly #store: DeadLetterStore;
  readonly #replay: DeadLetterReplay;

  constructor(parts: { store: DeadLetterStore; replay: DeadLetterReplay }) {
    this.#store = parts.store;
    this.#replay = parts.replay;
  }

  list(query: Readonly<Record<string, unknown>>): Promise<LetterPage> {
    return this.#store.list(parseLetterQuery(query), deadlineIn(defaultTimeoutMs));
  }

  get(id: string): Promise<InspectedLetter> {
    return this.#store.get(id, deadlineIn(defaultTimeoutMs));
  }

  replay(id: string, principal: string): Promise<ReplayResult> {
    return this.#replay.replay(id, principal);
  }

  discard(id: string, principal: string): Promise<void> {
    return this.#store.discard(id, principal, deadlineIn(defaultTimeoutMs));
  }
}
