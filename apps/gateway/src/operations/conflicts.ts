/** The verbs on conflict records. */
import type { ConflictRestorer, RestoreResult } from '#core/conflicts/restorer.pg.ts';
import { parseConflictQuery, type ConflictStore } from '#core/conflicts/store.pg.ts';
import type { ConflictView } from '#core/conflicts/view.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';

export class ConflictOperations {
  readonly #store: ConflictStore;
  readonly #restorer: ConflictRestorer;

  constructor(parts: { store: ConflictStore; restorer: ConflictRestorer }) {
    this.#store = parts.store;
    this.#restorer = parts.restorer;
  }

  list(query: Readonly<Record<string, unknown>>): Promise<{ items: ConflictView[]; nextCursor?: string }> {
    return this.#store.list(parseConflictQuery(query), deadlineIn(defaultTimeoutMs));
  }

  get(id: string): Promise<ConflictView> {
    return this.#store.get(id, deadlineIn(defaultTimeoutMs));
  }

  restore(id: string, ifMatch: string | null): Promise<RestoreResult> {
    return this.#restorer.restore({ id, ifMatch, deadline: deadlineIn(defaultTimeoutMs) });
  }
}
