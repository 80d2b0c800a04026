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
} as const;
