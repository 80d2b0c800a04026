/**
 * How a process that serves requests finds its cluster. Founding needs every node; a cluster that was founded before is opened with those that
 * can be reached, since a gateway has to start while a master is down: the others' numbers are known from any one of them.
 */
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { isPgquorumError, PgquorumError } from '../errors/error.ts';
import { connect } from '../postgres/connect.pg.ts';
import { loadMigrations, migrate } from '../postgres/migrate.pg.ts';
import type { Migration } from '../postgres/migrations.ts';
import { isConnectionError } from '../postgres/sqlstate.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { foundCluster, type ClusterNode, type FoundOptions } from './found.pg.ts';
import { assignNumbers, type FoundNode, type KnownNode } from './numbers.ts';

export interface OpenedCluster {
  readonly nodes: readonly ClusterNode[];
  /** Names of the nodes that could not be reached. */
  readonly unreachable: readonly string[];
}

const probeTimeoutMs = 2000;

export async function openCluster(options: FoundOptions): Promise<OpenedCluster> {
  try {
    return { nodes: await foundCluster(options), unreachable: [] };
  } catch (cause) {
    if (!isUnreachable(cause)) throw cause;
    return openDegraded(options, cause);
  }
}

const isUnreachable = (cause: unknown): boolean =>
  isPgquorumError(cause) ? cause.code === 'node_unreachable' : isConnectionError(cause);

type MemberRow = KnownNode['members'][number] & { readonly spare: boolean };

interface Reached {
  readonly address: NodeAddress;
  readonly known: (KnownNode & { readonly members: readonly MemberRow[] }) | null;
}

async function openDegraded(options: FoundOptions, failure: unknown): Promise<OpenedCluster> {
  const migrations = await loadMigrations();
  const reached = await Promise.all(options.nodes.map((address) => probe(address, migrations)));
  const live = reached.flatMap((one) => (one.known === null ? [] : [one.known]));
  if (live.length === 0)
    throw new PgquorumError('node_unreachable', 'none of the nodes can be reached', { cause: failure });
  if (live.length === reached.length) return { nodes: await foundCluster(options), unreachable: [] }; // it came back in between
  const members = new Map(live.flatMap((node) => node.members).map((member) => [member.number, member]));
  const founded =
    live.every((node) => node.identity !== null) &&
    options.nodes.every((node) => [...members.values()].some((member) => member.name === node.name));
  if (!founded) {
    const missing = reached.filter((one) => one.known === null).map((one) => one.address.name);
    throw new PgquorumError(
      'node_unreachable',
      `a cluster can be founded only while every node can be reached; not reached: ${missing.join(', ')}`,
      { cause: failure },
    );
  }
  assignNumbers(options.cluster, options.log, live); // refuses a node of another cluster
  const nodes = options.nodes.map((address) => ({
    ...numbersOf(
      address.name,
      [...members.values()],
      live.find((one) => one.name === address.name)?.identity,
    ),
    address,
    joining: live.find(({ name }) => name === address.name)?.identity?.joining ?? false,
  }));
  return { nodes, unreachable: reached.filter((one) => one.known === null).map((one) => one.address.name) };
}

function numbersOf(
  name: string,
  members: readonly { number: number; name: string; spare: boolean }[],
  identity: KnownNode['identity'] | undefined,
): FoundNode {
  const own = members.filter((member) => member.name === name);
  // Others may not have heard yet that it has taken another one.
  const number = identity?.number ?? own.find((member) => !member.spare)?.number;
  const spare = own.find((member) => member.spare && member.number !== number)?.number;
  if (number === undefined)
    throw new PgquorumError('node_misfit', `the other nodes know no number of node ${name}`);
  return { name, number: number as NodeNumber, spare: (spare ?? null) as NodeNumber | null };
}

async function probe(address: NodeAddress, migrations: readonly Migration[]): Promise<Reached> {
  let client: pg.Client | undefined;
  try {
    client = await connect(address, { application: 'pgquorum opening', connectTimeoutMs: probeTimeoutMs });
    await migrate(client, migrations);
    const identity = await client.query<NonNullable<KnownNode['identity']>>(
      'select cluster, name, number, spare, zone, log, joining_since is not null as joining from pgquorum.node',
    );
    const members = await client.query<MemberRow>(
      'select number, name, spare, retired from pgquorum.member where not retired',
    );
    return {
      address,
      known: {
        name: address.name,
        identity: identity.rows[0] ?? null,
        members: members.rows,
        collections: 0,
      },
    };
  } catch (cause) {
    if (isUnreachable(cause)) return { address, known: null };
    throw cause;
  } finally {
    await client?.end().catch(() => undefined); // it may be what failed
  }
}
