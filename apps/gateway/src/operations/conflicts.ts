/** The verbs on conflict records. */
import { parseConflictFilter, parseConflictQuery } from '#core/conflicts/query.ts';
import type { ResolveCalls, ResolveResult } from '#core/conflicts/resolve-call.pg.ts';
import type { ConflictRestorer, RestoreResult } from '#core/conflicts/restorer.pg.ts';
import type { ConflictCount, ConflictStore } from '#core/conflicts/store.pg.ts';
import type { ConflictView } from '#core/conflicts/view.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';

export class ConflictOperations {
  readonly #store: ConflictStore;
  readonly #restorer: ConflictRestorer;
  readonly #resolver: ResolveCalls;

  constructor(parts: { store: ConflictStore; restorer: ConflictRestorer; resolver: ResolveCalls }) {
    this.#store = parts.store;
    this.#restorer = parts.restorer;
    this.#resolver = parts.resolver;
  }

  list(query: Readonly<Record<string, unknown>>): Promise<{ items: ConflictView[]; nextCursor?: string }> {
    return this.#store.list(parseConflictQuery(query), deadlineIn(defaultTimeoutMs));
  }

  count(query: Readonly<Record<string, unknown>>): Promise<{ items: ConflictCount[]; total: number }> {
    return this.#store.count(parseConflictFilter(query), deadlineIn(defaultTimeoutMs));
  }

  get(id: string): Promise<ConflictView> {
    return this.#store.get(id, deadlineIn(defaultTimeoutMs));
  }

  restore(id: string, ifMatch: string | null): Promise<RestoreResult> {
    return this.#restorer.restore({ id, ifMatch, deadline: deadlineIn(defaultTimeoutMs) });
  }

  resolve(id: string, body: unknown, ifMatch: string | null): Promise<ResolveResult> {
    return this.#resolver.resolve({ id, body, ifMatch, deadline: deadlineIn(defaultTimeoutMs) });
  }
}
