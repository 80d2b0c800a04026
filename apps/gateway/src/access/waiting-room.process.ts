/**
 * A bounded number of requests at once, and a bounded number that wait for their turn, in the order in which they came and for a bounded time. What is
 * above is refused at once: a gateway that takes on everything serves nobody.
 */
import { PgquorumError } from '#core/errors/error.ts';

export interface RoomLimits {
  readonly runningMax: number;
  readonly waitingMax: number;
  readonly waitMs: number;
}

/** Takes the place back; more than once does no harm. */
export type Leave = () => void;

export class WaitingRoom {
  readonly #limits: RoomLimits;
  /** In the order in which they came. Each is called when its turn has come. */
  readonly #waiting = new Set<() => void>();
  #running = 0;

  constructor(limits: RoomLimits) {
    this.#limits = limits;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Throws `overloaded`. Whoever is gone before its turn gives up its place in the row. */
  async enter(gone: AbortSignal): Promise<Leave> {
    if (this.#running < this.#limits.runningMax) this.#running += 1;
    else await this.#turn(gone);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      const [next] = this.#waiting;
      // A place is handed on rather than given back, or somebody who has just come would take it first.
      if (next === undefined) this.#running -= 1;
      else next();
    };
  }

  #turn(gone: AbortSignal): Promise<void> {
    const { waitingMax, waitMs, runningMax } = this.#limits;
    if (this.#waiting.size >= waitingMax)
      throw overloaded(`${runningMax} requests are worked on, and ${this.#waiting.size} wait`, waitMs);
    return new Promise((resolve, reject) => {
      const end = (): void => {
        this.#waiting.delete(next);
        clearTimeout(timer);
        gone.removeEventListener('abort', leave);
      };
      const next = (): void => {
        end();
        resolve();
      };
      const leave = (): void => {
        end();
        reject(overloaded('the caller is gone', waitMs));
      };
      const timer = setTimeout(() => {
        end();
        reject(overloaded(`the turn of the request did not come within ${waitMs} ms`, waitMs));
      }, waitMs);
      this.#waiting.add(next);
      if (gone.aborted) leave();
      else gone.addEventListener('abort', leave);
    });
  }
}

const overloaded = (detail: string, retryAfterMs: number): PgquorumError =>
  new PgquorumError('overloaded', detail, { extra: { retryAfterMs: Math.max(1000, retryAfterMs) } });
