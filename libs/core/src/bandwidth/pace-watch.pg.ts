/** Tells, on the node that edges lead into, when one begins to be held back by its limit and when it is not any more. */
import type pg from 'pg';
import type { Paces } from './pace.ts';

/** Held back for more than this part of the time. */
const heldPart = 0.1;
/** Looks in a row that have to agree. */
const looks = 2;

interface Seen {
  heldMs: number;
  atMs: number;
  held: boolean;
  times: number;
}

export class PaceWatch {
  readonly #paces: Paces;
  readonly #seen = new Map<string, Seen>();

  constructor(paces: Paces) {
    this.#paces = paces;
  }

  /** Of the edges into this node. What was told last stands on the node: nothing is told twice. */
  async tell(client: Pick<pg.ClientBase, 'query'>, target: number): Promise<void> {
    const { bytesPerSecond, totalBytesPerSecond } = this.#paces.limits;
    for (const edge of this.#paces.all) {
      if (edge.target !== target) continue;
      const held = this.#look(`${edge.origin} ${edge.target}`, edge.pace.heldMs);
      if (held === null) continue;
      await client.query(
        `with changed as (
           insert into pgquorum.watched as w (kind, origin, target, state) select 'pace', $1, $2, $3 where $3 = 'began' or exists (select from pgquorum.watched f where f.kind = 'pace' and f.origin = $1 and f.target = $2)
           on conflict (kind, origin, target) do update set state = excluded.state, since = excluded.since where w.state <> excluded.state
           returning w.origin, w.target, w.state
         )
         insert into pgquorum.event (type, body) select 'throttled', jsonb_build_object('happened', c.state, 'from', c.origin, 'to', c.target, 'bytesPerSecond', $4::bigint, 'totalBytesPerSecond', $5::bigint) from changed c`,
        [edge.origin, target, held ? 'began' : 'ended', bytesPerSecond, totalBytesPerSecond],
      );
    }
  }

  /** Null while it is not clear, or as it was. */
  #look(key: string, heldMs: number): boolean | null {
    const nowMs = performance.now();
    const before = this.#seen.get(key);
    if (before === undefined) {
      this.#seen.set(key, { heldMs, atMs: nowMs, held: false, times: 0 });
      return null;
    }
    const held = heldMs - before.heldMs > heldPart * (nowMs - before.atMs);
    const times = held === before.held ? before.times + 1 : 1;
    this.#seen.set(key, { heldMs, atMs: nowMs, held, times });
    return times === looks ? held : null;
  }
}
