/**
 * Which node lists which records. Where every node holds every shard any one of them has all records. Those of a collection with a shard map are on the replicas of their
 * shards: each is listed by the first of them that can be asked, so that together the nodes list each record once.
 */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { isNodeFailure, type Node } from '../topology/nodes.pg.ts';

export interface Seat {
  readonly me: string;
  /** Nodes that are asked, this one included. */
  readonly asked: readonly string[];
  /** Of collections without a map this one lists the records. */
  readonly first: boolean;
}

/** A condition on pgquorum.conflict c; null is the seat of one who lists everything. */
export function seatCondition(seat: Seat | null, bind: (value: unknown) => string): string {
  if (seat === null) return 'true';
  return `coalesce((select (select r.name from unnest(m.replicas) with ordinality r(name, place) where r.name = any(${bind(seat.asked)}::text[]) order by r.place limit 1) is not distinct from ${bind(seat.me)}
    from pgquorum.shard_map m where m.collection = c.collection and m.shard = c.shard), ${seat.first})`;
}

/** What each seat gave. A node that fails is left out, and the others asked anew. */
export async function askSeats<T>(
  nodes: readonly Node[],
  deadline: Deadline,
  work: (client: pg.PoolClient, seat: Seat | null) => Promise<T>,
): Promise<T[]> {
  let left = nodes;
  let lost: unknown;
  while (left.length > 0) {
    const [first] = left;
    try {
      const all = await first!.run(deadline, async (client) =>
        (await hasMap(client)) ? null : { listed: await work(client, null) },
      );
      if (all !== null) return [all.listed];
    } catch (cause) {
      if (!isNodeFailure(cause)) throw cause;
      lost = cause;
      left = left.slice(1);
      continue;
    }
    const usable = left.filter((node) => node === first || node.isUp);
    const asked = usable.map(({ name }) => name);
    const answers = await Promise.allSettled(
      usable.map((node) =>
        node.run(deadline, (client) => work(client, { me: node.name, asked, first: node === first })),
      ),
    );
    const failed = usable.filter((_, at) => answers[at]!.status === 'rejected');
    const causes = answers.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
    const other = causes.find((cause) => !isNodeFailure(cause));
    if (other !== undefined) throw other;
    if (failed.length === 0) return answers.map((one) => (one as PromiseFulfilledResult<T>).value);
    lost = causes[0];
    left = usable.filter((node) => !failed.includes(node));
  }
  throw new PgquorumError('replicas_unavailable', 'no node could do it', { cause: lost });
}

async function hasMap(client: pg.PoolClient): Promise<boolean> {
  const { rows } = await client.query<{ mapped: boolean }>(
    'select exists (select from pgquorum.shard_map) as mapped',
  );
  return rows[0]!.mapped;
}
