/**
 * How a process that serves requests finds its cluster. Founding needs every node; a cluster that was founded before is opened with those that
 * can be reached, since a gateway has to start while a master is down: the others' numbers are known from any one of them.
 */
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { connect } from '../postgres/connect.pg.ts';
import { loadMigrations, migrate } from '../postgres/migrate.pg.ts';
import type { Migration } from '../postgres/migrations.ts';
import { isUnreachable } from '../postgres/sqlstate.ts';
import { joinMembers, numberOf, resolveNodes, sameNames, type MemberRow } from '../membership/members.ts';
import { lookAtMembers, readMembers } from '../membership/members.pg.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { foundCluster, type ClusterNode, type FoundOptions } from './found.pg.ts';
import { assignNumbers, type FoundNode, type KnownNode } from './numbers.ts';

export interface OpenedCluster {
  readonly nodes: readonly ClusterNode[];
  /** Names of the nodes that could not be reached. */
  readonly unreachable: readonly string[];
  /** Listed, and removed from the cluster: they are left out. */
  readonly removed: readonly NodeAddress[];
}

const probeTimeoutMs = 2000;

export async function openCluster(options: FoundOptions): Promise<OpenedCluster> {
  try {
    const nodes = await foundCluster(options);
    return { nodes, unreachable: [], removed: without(options.nodes, nodes) };
  } catch (cause) {
    if (!isUnreachable(cause)) throw cause;
    return openDegraded(options, cause);
  }
}

const without = (listed: readonly NodeAddress[], nodes: readonly { name: string }[]): NodeAddress[] =>
  listed.filter(({ name }) => !nodes.some((node) => node.name === name));

interface Reached {
  readonly address: NodeAddress;
  readonly known: (KnownNode & { readonly members: readonly MemberRow[] }) | null;
}

async function openDegraded(options: FoundOptions, failure: unknown): Promise<OpenedCluster> {
  const migrations = await loadMigrations();
  const { reached, members } = await reach(options.nodes, migrations);
  const live = reached.flatMap((one) => (one.known === null ? [] : [one.known]));
  if (live.length === 0)
    throw new PgquorumError('node_unreachable', 'none of the nodes can be reached', { cause: failure });
  const addresses = reached.map(({ address }) => address);
  const removed = without(options.nodes, addresses);
  // It came back in between, or was removed.
  if (live.length === reached.length)
    return { nodes: await foundCluster({ ...options, nodes: addresses }), unreachable: [], removed };
  const founded =
    live.every((node) => node.identity !== null) &&
    addresses.every((node) => members.some((member) => member.name === node.name && !member.retired));
  if (!founded) {
    const missing = reached.filter((one) => one.known === null).map((one) => one.address.name);
    throw new PgquorumError(
      'node_unreachable',
      `a cluster can be founded only while every node can be reached; not reached: ${missing.join(', ')}`,
      { cause: failure },
    );
  }
  assignNumbers(options.cluster, options.log, live); // refuses a node of another cluster
  const nodes = addresses.map((address) => {
    const identity = live.find(({ name }) => name === address.name)?.identity ?? null;
    return {
      ...numbersOf(address.name, members, identity),
      address,
      joining: identity?.joining ?? false,
    };
  });
  return {
    nodes,
    unreachable: reached.filter((one) => one.known === null).map((one) => one.address.name),
    removed,
  };
}

/** The nodes of the list, but for those that were removed, and those that were added. Nothing is made on one that was removed. */
async function reach(
  listed: readonly NodeAddress[],
  migrations: readonly Migration[],
): Promise<{ reached: Reached[]; members: MemberRow[] }> {
  let nodes = listed;
  for (;;) {
    const views = await Promise.all(nodes.map(look));
    const now = resolveNodes(nodes, joinMembers(views)).nodes;
    if (sameNames(now, nodes)) {
      const reached = await Promise.all(now.map((address) => probe(address, migrations)));
      return {
        reached,
        members: joinMembers(reached.flatMap(({ known }) => (known === null ? [] : [known.members]))),
      };
    }
    nodes = now;
  }
}

/** Opened for as long as the work takes; null when it can not be reached. */
async function reaching<T>(address: NodeAddress, work: (client: pg.Client) => Promise<T>): Promise<T | null> {
  let client: pg.Client | undefined;
  try {
    client = await connect(address, { application: 'pgquorum opening', connectTimeoutMs: probeTimeoutMs });
    return await work(client);
  } catch (cause) {
    if (isUnreachable(cause)) return null;
    throw cause;
  } finally {
    await client?.end().catch(() => undefined); // it may be what failed
  }
}

const look = async (address: NodeAddress): Promise<MemberRow[]> =>
  (await reaching(address, lookAtMembers)) ?? [];

async function probe(address: NodeAddress, migrations: readonly Migration[]): Promise<Reached> {
  const known = await reaching(address, async (client) => {
    const { rows } = await client.query<{ founded: boolean }>(
      `select to_regclass('pgquorum.node') is not null as founded`,
    );
    // It may have been removed, and those who know are not reached.
    if (!rows[0]!.founded) return { name: address.name, identity: null, members: [], collections: 0 };
    await migrate(client, migrations);
    const identity = await client.query<NonNullable<KnownNode['identity']>>(
      'select cluster, name, number, spare, zone, log, joining_since is not null as joining from pgquorum.node',
    );
    const members = await readMembers(client);
    return { name: address.name, identity: identity.rows[0] ?? null, members, collections: 0 };
  });
  return { address, known };
}

function numbersOf(name: string, members: readonly MemberRow[], identity: KnownNode['identity']): FoundNode {
  const known = numberOf(name, members);
  // Others may not have heard yet that it has taken another one.
  const number = identity?.number ?? known?.number;
  if (number === undefined)
    throw new PgquorumError('node_misfit', `the other nodes know no number of node ${name}`);
  const spare = members.find(
    (one) => one.name === name && one.spare && !one.retired && one.number !== number,
  );
  return { name, number: number as NodeNumber, spare: (spare?.number ?? null) as NodeNumber | null };
}
