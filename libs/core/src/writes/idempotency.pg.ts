/**
 * Requests with an idempotency key. The key's first use is noted on its home node before anything is written, so that another body under the same key
 * is refused wherever it arrives; the writing nodes note it too, in case the home node is away later. What the request wrote before is looked up on
 * every node that answers: a node without it then writes again under the same request id, and both count as one write.
 */
import type { CollectionTable } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import { textArray } from '../postgres/binary-array.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { isNodeFailure, type Node } from '../topology/nodes.pg.ts';
import { requestStatement } from './statements.ts';
import type { RecordedKey, RequestIdentity } from './transaction.pg.ts';

export interface RecallOptions {
  /** The home node first. */
  readonly nodes: readonly Node[];
  readonly table: CollectionTable;
  readonly request: RequestIdentity;
  readonly keys: readonly string[];
  readonly deadline: Deadline;
}

interface Answer {
  readonly bodyHash: string | null;
  readonly recorded: readonly RecordedKey[];
}

/** What this request has written before, by key. */
export async function recallRequest(options: RecallOptions): Promise<Map<string, RecordedKey>> {
  const found = new Map<string, RecordedKey>();
  const rest = [...options.nodes];
  const answers: Answer[] = [];
  while (answers.length === 0) {
    const home = rest.shift();
    if (home === undefined) throw new PgquorumError('replicas_unavailable', 'no node could note the request');
    const answer = await ask(options, home, true);
    if (answer !== null) answers.push(answer);
  }
  answers.push(
    ...(await Promise.all(rest.filter((node) => node.isUp).map((node) => ask(options, node, false)))).filter(
      (answer) => answer !== null,
    ),
  );
  for (const { bodyHash, recorded } of answers) {
    if (bodyHash !== null && bodyHash !== options.request.bodyHash)
      throw new PgquorumError(
        'idempotency_key_reused',
        'the first request with this Idempotency-Key had another body',
      );
    for (const row of recorded) if (isBetter(row, found.get(row.id))) found.set(row.id, row);
  }
  return found;
}

/** Null when the node can not be asked. */
async function ask(
  { table, request, keys, deadline }: RecallOptions,
  node: Node,
  note: boolean,
): Promise<Answer | null> {
  try {
    return await node.run(deadline, async (client) => {
      if (note)
        await client.query(
          'insert into pgquorum.gateway_request (request, body_hash) values ($1, $2) on conflict do nothing',
          [request.id, request.bodyHash],
        );
      const [known, recorded] = await Promise.all([
        client.query<{ body_hash: string }>(
          'select body_hash from pgquorum.gateway_request where request = $1',
          [request.id],
        ),
        client.query<RecordedKey>({
          ...requestStatement(table),
          values: [table.collection, request.id, textArray(keys)],
        }),
      ]);
      return { bodyHash: known.rows[0]?.body_hash ?? null, recorded: recorded.rows };
    });
  } catch (cause) {
    if (isNodeFailure(cause)) return null;
    throw cause;
  }
}

/** A dot that still is a node's current version tells more. */
const isBetter = (one: RecordedKey, than: RecordedKey | undefined): boolean =>
  than === undefined ||
  (one.hlc !== null && than.hlc === null) ||
  (one.hlc !== null && than.hlc !== null && BigInt(one.hlc) > BigInt(than.hlc));
