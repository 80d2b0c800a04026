/** What custom resolvers could not do, gathered from the nodes: only the one that tried knows it. */
import type { Deadline } from '../postgres/deadline.ts';
import { isNodeFailure, type Nodes } from '../topology/nodes.pg.ts';
import type { ResolverAttempt } from './resolver-attempt.pg.ts';
import type { AttemptView } from './view.ts';

/** By id of the record, the newest of each. Nodes that can not be asked are left out. */
export async function readAttempts(
  nodes: Nodes,
  ids: readonly string[],
  deadline: Deadline,
): Promise<Map<string, AttemptView>> {
  const found = new Map<string, AttemptView>();
  if (ids.length === 0) return found;
  const answers = await Promise.all(
    nodes.live.map(async (node) => {
      try {
        const { rows } = await node.run(deadline, (client) =>
          client.query<{ id: string; attempt: ResolverAttempt }>(
            'select c.id, c.attempt from pgquorum.conflict c where c.id = any($1::uuid[]) and c.attempt is not null',
            [ids],
          ),
        );
        return rows.map(({ id, attempt }) => ({ id, attempt, node: node.name }));
      } catch (cause) {
        if (!isNodeFailure(cause)) throw cause;
        return [];
      }
    }),
  );
  for (const { id, attempt, node } of answers.flat()) {
    const { resolver, version, error, tries } = attempt;
    const at = new Date(attempt.at).toISOString();
    if ((found.get(id)?.at ?? '') < at) found.set(id, { at, resolver, version, error, tries, node });
  }
  return found;
}
