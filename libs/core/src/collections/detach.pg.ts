/**
 * Gives an attached table back as it was on every node: triggers, version table and publication membership go, its rows stay, also on nodes where attach
 * made the table. What was written and had not arrived everywhere by then stays different.
 */
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { quoteTable } from '../postgres/identifier.ts';
import { lockAlone } from './attach.pg.ts';
import { forgetCollection, markEarlier, onAllNodes, readCollection } from './catalog.pg.ts';
import { detachStatements } from './install.ts';

export interface DetachOptions {
  readonly nodes: readonly NodeAddress[];
  readonly name: string;
}

export async function detachCollection({ nodes, name }: DetachOptions): Promise<void> {
  const detach = async (client: pg.Client, node: NodeAddress): Promise<boolean> => {
    const found = await readCollection(client, name);
    if (found === null) return false;
    if (found.definition.attached === undefined)
      throw new PgquorumError('not_attached', `collection ${name}`);
    const { table } = found;
    // Triggers are dropped under the strongest lock: to take that one at once can not deadlock with writers that hold a weaker one.
    await lockAlone(
      client,
      quoteTable({ schema: table.schema, name: table.table }),
      node.name,
      'access exclusive',
    );
    for (const statement of detachStatements(table)) await client.query(statement);
    await forgetCollection(client, name);
    return true;
  };
  const detached = await onAllNodes(nodes, `pgquorum detach ${name}`, detach, (clients) =>
    markEarlier(clients, name),
  );
  if (!detached.some(Boolean)) throw new PgquorumError('collection_not_found', `collection ${name}`);
}
