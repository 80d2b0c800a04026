/** Which number each node has. Pure. */
import { PgquorumError } from '../errors/error.ts';
import type { NodeNumber } from '../versioning/version.ts';

export interface FoundNode {
  readonly name: string;
  readonly number: NodeNumber;
  /** Null as long as nobody could give it one. */
  readonly spare: NodeNumber | null;
}

export interface KnownNode {
  readonly name: string;
  /** Null for a database that has not been a node yet. */
  readonly identity: {
    readonly cluster: string;
    readonly name: string;
    readonly number: number;
    /** Null after it has taken its spare one, until it has another. */
    readonly spare: number | null;
    readonly zone: string;
    readonly log: string;
    readonly joining: boolean;
  } | null;
  readonly members: readonly { readonly number: number; readonly name: string; readonly retired: boolean }[];
  readonly collections: number;
}

/** Gives every listed node its number and spare: those it has, else the next ones that nobody ever had, in the order of the list. */
export function assignNumbers(cluster: string, log: string, nodes: readonly KnownNode[]): FoundNode[] {
  const given = new Set(
    nodes.flatMap((node) => [
      ...node.members.map((member) => member.number),
      ...(node.identity ? [node.identity.number, node.identity.spare ?? 0] : []),
    ]),
  );
  for (const node of nodes) if (node.identity !== null) checkIdentity(cluster, log, node.name, node.identity);
  const numbers = nodes.flatMap((node) => (node.identity ? [node.identity.number] : []));
  const twice = numbers.find((number, at) => numbers.indexOf(number) !== at);
  if (twice !== undefined)
    throw new PgquorumError('node_misfit', `two nodes have the number ${twice}: one is a copy of the other`);
  for (const node of nodes) if (node.identity === null) checkNew(node.name, nodes);
  let next = Math.max(0, ...given);
  const fresh = nodes.map((node) => ({ node, number: node.identity?.number ?? (next += 1) }));
  return fresh.map(({ node, number }) => ({
    name: node.name,
    number: number as NodeNumber,
    spare: (node.identity?.spare ?? (next += 1)) as NodeNumber,
  }));
}

/** Its database may have been lost: what it had and nobody else, nobody will send again, and its numbers are still in use. */
function checkNew(name: string, nodes: readonly KnownNode[]): void {
  const known = nodes.some(({ members }) => members.some((one) => one.name === name && !one.retired));
  if (known && nodes.some(({ collections }) => collections > 0))
    throw new PgquorumError(
      'node_misfit',
      `the others know a node ${name}, but its database is new: give the node that replaces it another name, or remove the old one first`,
    );
}

/** The nodes that have to be filled before they serve: those that are new while others have collections, and those whose filling has begun. */
export function joining(nodes: readonly KnownNode[]): readonly string[] {
  const hasCollections = nodes.some(({ identity, collections }) => identity !== null && collections > 0);
  return nodes.filter(({ identity }) => identity?.joining ?? hasCollections).map(({ name }) => name);
}

function checkIdentity(
  cluster: string,
  log: string,
  name: string,
  identity: NonNullable<KnownNode['identity']>,
): void {
  const differs = (what: string, has: string, wants: string) =>
    new PgquorumError(
      'node_misfit',
      `node ${name} was founded with ${what} ${has}, the settings say ${wants}`,
    );
  if (identity.cluster !== cluster) throw differs('cluster', identity.cluster, cluster);
  if (identity.name !== name) throw differs('name', identity.name, name);
  if (identity.log !== log) throw differs('change log', identity.log, log);
}
