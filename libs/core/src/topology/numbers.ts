/** Which number each node has. Pure. */
import { PgquorumError } from '../errors/error.ts';
import type { NodeNumber } from '../versioning/version.ts';

export interface FoundNode {
  readonly name: string;
  readonly number: NodeNumber;
  readonly spare: NodeNumber;
}

export interface KnownNode {
  readonly name: string;
  /** Null for a database that has not been a node yet. */
  readonly identity: {
    readonly cluster: string;
    readonly name: string;
    readonly number: number;
    readonly spare: number;
    readonly log: string;
  } | null;
  readonly members: readonly { readonly number: number; readonly name: string }[];
  readonly collections: number;
}

/** Gives every listed node its number and spare: those it has, else the next ones that nobody ever had, in the order of the list. */
export function assignNumbers(cluster: string, log: string, nodes: readonly KnownNode[]): FoundNode[] {
  const given = new Set(
    nodes.flatMap((node) => [
      ...node.members.map((member) => member.number),
      ...(node.identity ? [node.identity.number, node.identity.spare] : []),
    ]),
  );
  for (const node of nodes) if (node.identity !== null) checkIdentity(cluster, log, node.name, node.identity);
  const numbers = nodes.flatMap((node) => (node.identity ? [node.identity.number] : []));
  const twice = numbers.find((number, at) => numbers.indexOf(number) !== at);
  if (twice !== undefined)
    throw new PgquorumError('node_misfit', `two nodes have the number ${twice}: one is a copy of the other`);
  const isNew = nodes.some((node) => node.identity === null);
  if (isNew && nodes.some((node) => node.collections > 0)) {
    throw new PgquorumError(
      'node_misfit',
      `node ${nodes.find((node) => node.identity === null)!.name} is new, but the cluster already has collections: a node can only be added while there are none`,
    );
  }
  let next = Math.max(0, ...given);
  const fresh = nodes.map((node) => ({ node, number: node.identity?.number ?? (next += 1) }));
  return fresh.map(({ node, number }) => ({
    name: node.name,
    number: number as NodeNumber,
    spare: (node.identity?.spare ?? (next += 1)) as NodeNumber,
  }));
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
