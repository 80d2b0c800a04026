/** The verbs on the limits of edges. */
import { readLimits, type LimitsView } from '#core/bandwidth/limits.ts';
import type { ThrottleStore } from '#core/bandwidth/store.pg.ts';
import { deadlineIn } from '#core/postgres/session.pg.ts';
import { defaultTimeoutMs } from '#core/writes/consistency.ts';

export class ThrottleOperations {
  readonly #store: ThrottleStore;

  constructor(store: ThrottleStore) {
    this.#store = store;
  }

  get(): Promise<LimitsView> {
    return this.#store.get(deadlineIn(defaultTimeoutMs));
  }

  set(body: unknown, ifMatch: string | null, principal: string): Promise<LimitsView> {
    return this.#store.set(
      { change: readLimits(body), ifMatch, by: principal },
      deadlineIn(defaultTimeoutMs),
    );
  }
}
