/** The codes of requests that name a node, a part of the one table in codes.ts. */
import { entry } from './code-entry.ts';

export const nodeCodes = {
  node_not_found: entry(
    404,
    'NOT_FOUND',
    false,
    'There is no such node',
    'List them with GET /v1/cluster/nodes.',
  ),
  node_exists: entry(
    409,
    'ALREADY_EXISTS',
    false,
    'A node of this name belongs to the cluster',
    'Choose another name, or remove the other node first.',
  ),
  node_reachable: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'The node that was declared lost answers',
    'Remove it without ?lost=true: what it has and nobody else is handed over then. To give it up all the same, stop its server first.',
  ),
  node_removed: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'The node was removed from the cluster',
    'It takes part in nothing any more, and its number is retired. See docs/operating.md for what to do with a database that was declared lost and is back.',
  ),
  last_node: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'The last node can not be removed',
    'Nobody would have the rows. Add another node first.',
  ),
  membership_busy: entry(
    409,
    'FAILED_PRECONDITION',
    false,
    'Another change of the members goes on',
    'The detail says which. Nodes join and leave one after the other: ask again when its job has ended.',
  ),
} as const;
