/**
 * Requests with an idempotency key. The key's first use is noted on its home node before anything is written, so that another body under the same key
 * is refused wherever it arrives; the writing nodes note it too, in case the home node is away later. What the request wrote before is looked up on
 * every node that answers: a node without it then writes again under the same request id, and both count as one write.
 */
import type pg from 'pg';
import type { CollectionTable } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import { textArray } from '../postgres/binary-array.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { isNodeFailure, type Node } from '../topology/nodes.pg.ts';
import { requestStatement } from './statements.ts';
import type { RecordedKey, RequestIdentity } from './transaction.pg.ts';

export interface AskOptions<R> {
  /** The home node first. */
  readonly nodes: readonly Node[];
  readonly request: RequestIdentity;
  readonly deadline: Deadline;
  /** What a node has recorded of the request. */
  readonly read: (client: pg.PoolClient) => Promise<readonly R[]>;
}

interface Answer<R> {
  readonly bodyHash: string | null;
  readonly recorded: readonly R[];
}

export interface RecallOptions extends Omit<AskOptions<RecordedKey>, 'read'> {
  readonly table: CollectionTable;
  readonly keys: readonly string[];
}

/** What this request has written before, by key. */
export async function recallRequest({
  table,
  keys,
  ...options
}: RecallOptions): Promise<Map<string, RecordedKey>> {
  const rows = await askAboutRequest<RecordedKey>({
    ...options,
    read: async (client) =>
      (
        await client.query<RecordedKey>({
          ...requestStatement(table),
          values: [table.collection, options.request.id, textArray(keys)],
        })
      ).rows,
  });
  const found = new Map<string, RecordedKey>();
  for (const row of rows) if (isBetter(row, found.get(row.id))) found.set(row.id, row);
  return found;
}

/** Notes the request on its home node, and gathers what the nodes that answer have recorded of it. */
export async function askAboutRequest<R>(options: AskOptions<R>): Promise<R[]> {
  const rest = [...options.nodes];
  const answers: Answer<R>[] = [];
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
  for (const { bodyHash } of answers)
    if (bodyHash !== null && bodyHash !== options.request.bodyHash)
      throw new PgquorumError(
        'idempotency_key_reused',
        'the first request with this Idempotency-Key had another body',
      );
  return answers.flatMap(({ recorded }) => recorded);
}

/** Null when the node can not be asked. */
async function ask<R>(
  { request, deadline, read }: AskOptions<R>,
  node: Node,
  note: boolean,
): Promise<Answer<R> | null> {
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
        read(client),
      ]);
      return { bodyHash: known.rows[0]?.body_hash ?? null, recorded };
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
