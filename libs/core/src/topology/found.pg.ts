/**
 * Founding: brings every listed database to the newest schema, gives it its identity, and makes the slots from which its peers will read.
 * May be run by any number of processes at once and again at every start: it finishes what a killed one began.
 *
 * Invariant: a collection can exist only where all slots do, so no write ever precedes the slot that has to carry it. A source is `creating`
 * until its slot and its first position are known; a slot found with a source that is still `creating` may be anyone's and is made anew.
 */
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { renewTriggers } from '../collections/renew-triggers.pg.ts';
import { failpoint } from '../faults/failpoint.process.ts';
import { connect } from '../postgres/connect.pg.ts';
import { loadMigrations, migrate } from '../postgres/migrate.pg.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { adoptNumber } from './adopt.pg.ts';
import { noteOwn } from './identity.pg.ts';
import { edgeSlot, logSlot, publicationName, type LogKind } from './names.ts';
import { joinNode } from '../membership/join.pg.ts';
import {
  isRemoved,
  joinMembers,
  resolveNodes,
  sameNames,
  type MemberRow,
  type ResolvedNodes,
} from '../membership/members.ts';
import { lookAtMembers, readMembers } from '../membership/members.pg.ts';
import { assignNumbers, joining, type FoundNode, type KnownNode } from './numbers.ts';

export interface FoundOptions {
  readonly nodes: readonly NodeAddress[];
  readonly cluster: string;
  readonly log: LogKind;
  readonly signal?: AbortSignal;
  /** One of the nodes is added while the cluster runs: its address is kept for processes whose lists do not have it. */
  readonly adding?: string;
  /** Called under the founding locks, before anything is written: throws what is in the way. */
  readonly check?: (members: readonly MemberRow[], joining: readonly string[]) => void;
}

export interface ClusterNode extends FoundNode {
  readonly address: NodeAddress;
  /** It is being filled (membership/), and serves no requests yet. */
  readonly joining?: boolean;
}

/** 64-bit key of the founding lock: "pgqfoun" read as a number. */
const foundingLock = '31638934139139438';

/** How often the list may turn out to be another one than the nodes say, before something is wrong with what they say. */
const listsMax = 10;

/** All nodes of the cluster: those that are listed, but for those that were removed, and those that were added while it ran. */
export async function foundCluster(options: FoundOptions): Promise<ClusterNode[]> {
  let { nodes } = options;
  for (let tries = 0; tries < listsMax; tries += 1) {
    const found = await foundListed({ ...options, nodes });
    if (found.kind === 'founded') return found.nodes;
    nodes = found.resolved.nodes;
  }
  throw new PgquorumError('not_ready', 'the members of the cluster change all the time');
}

type Founding =
  | { readonly kind: 'founded'; readonly nodes: ClusterNode[] }
  /** Nothing was done: these are the nodes. */
  | { readonly kind: 'listed otherwise'; readonly resolved: ResolvedNodes };

/** Session connections to all nodes with the founding lock held on each, taken in the order of their names. */
async function foundListed(options: FoundOptions): Promise<Founding> {
  const migrations = await loadMigrations();
  const clients: pg.Client[] = [];
  try {
    for (const node of options.nodes) clients.push(await connect(node, { application: 'pgquorum founding' }));
    // Before anything is made: one that was removed is left alone.
    const looked = resolved(options, await Promise.all(clients.map(lookAtMembers)));
    if (looked !== null) return looked;
    for (const client of clients) {
      await checkServer(client);
      await migrate(client, migrations);
      await renewTriggers(client);
    }
    // Lists of different processes have different orders.
    for (const at of byName(options.nodes))
      await clients[at]!.query(`select pg_advisory_lock(${foundingLock})`);
    const views = await Promise.all(clients.map(readMembers));
    return resolved(options, views) ?? { kind: 'founded', nodes: await foundLocked(options, clients, views) };
  } finally {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined))); // the locks go with the connections
  }
}

/** Nobody begins to join while another one comes or goes. */
function checkFounding(
  { check }: FoundOptions,
  known: readonly KnownNode[],
  members: readonly MemberRow[],
): void {
  check?.(
    members,
    known.filter(({ identity }) => identity?.joining === true).map(({ name }) => name),
  );
  const fresh = known.findLast(({ identity }) => identity === null);
  const going = members.find(({ change, retired }) => change !== null && !retired);
  if (fresh !== undefined && going !== undefined)
    throw new PgquorumError('not_ready', `node ${fresh.name} can not join while node ${going.name} leaves`);
}

/** Null when the list is as the nodes say. */
function resolved(
  { nodes, adding }: FoundOptions,
  views: readonly (readonly MemberRow[])[],
): Extract<Founding, { kind: 'listed otherwise' }> | null {
  const found = resolveNodes(nodes, joinMembers(views), adding);
  return sameNames(found.nodes, nodes) ? null : { kind: 'listed otherwise', resolved: found };
}

const byName = (nodes: readonly NodeAddress[]): number[] =>
  [...nodes.keys()].sort((a, b) => (nodes[a]!.name < nodes[b]!.name ? -1 : 1));

/** Takes the founding lock of these nodes for as long as the work takes: whoever founds, adds or removes is alone. */
export async function withFoundingLocks<T>(
  nodes: readonly ClusterNode[],
  work: (clients: ReadonlyMap<string, pg.Client>) => Promise<T>,
): Promise<T> {
  const clients = new Map<string, pg.Client>();
  try {
    for (const at of byName(nodes.map(({ address }) => address))) {
      const client = await connect(nodes[at]!.address, { application: 'pgquorum membership' });
      clients.set(nodes[at]!.name, client);
      await client.query(`select pg_advisory_lock(${foundingLock})`);
    }
    return await work(clients);
  } finally {
    await Promise.all([...clients.values()].map((client) => client.end().catch(() => undefined))); // the locks go with the connections
  }
}

async function foundLocked(
  options: FoundOptions,
  clients: readonly pg.Client[],
  views: readonly (readonly MemberRow[])[],
): Promise<ClusterNode[]> {
  const members = joinMembers(views);
  const known = await Promise.all(
    clients.map((client, at) => readKnown(client, { name: options.nodes[at]!.name, members: views[at]! })),
  );
  checkFounding(options, known, members);
  await adoptNumbers(clients, known);
  const numbered = assignNumbers(options.cluster, options.log, known);
  const joiners = joining(known);
  const isJoiner = (at: number): boolean => joiners.includes(numbered[at]!.name);
  for (const [at, client] of clients.entries())
    await writeIdentity(client, options, numbered, { at, joins: isJoiner(at), members });
  for (const [at, client] of clients.entries())
    await makeSources(clients, numbered, at, client, options, isJoiner(at));
  const like = clients.find((_, at) => !isJoiner(at));
  for (const [at, client] of clients.entries()) {
    if (!isJoiner(at)) continue;
    const others = numbered.filter((_, other) => other !== at);
    await joinNode({ ...options, joiner: numbered[at]!, client, others, like });
  }
  return numbered.map((node, at) => ({ ...node, address: options.nodes[at]!, joining: isJoiner(at) }));
}

async function checkServer(client: pg.Client): Promise<void> {
  const rows = await client.query<{
    wal_level: string;
    extension: string | null;
    can_replicate: boolean;
    version: number;
  }>(
    `select current_setting('wal_level') as wal_level, (select extversion from pg_extension where extname = 'vector') as extension,
       (select rolreplication or rolsuper from pg_roles where rolname = current_user) as can_replicate, current_setting('server_version_num')::int as version`,
  );
  const server = rows.rows[0]!;
  if (server.version < 150000)
    throw new PgquorumError('preflight_failed', `Postgres 15 or newer is needed, this is ${server.version}`);
  if (server.wal_level !== 'logical')
    throw new PgquorumError(
      'preflight_failed',
      `wal_level is ${server.wal_level}: alter system set wal_level = 'logical', then restart the server`,
    );
  if (!server.can_replicate)
    throw new PgquorumError('preflight_failed', 'the role may not replicate: alter role <role> replication');
  if (server.extension === null) await createExtension(client);
}

async function createExtension(client: pg.Client): Promise<void> {
  try {
    await client.query('create extension if not exists vector schema public');
  } catch (cause) {
    throw new PgquorumError(
      'preflight_failed',
      `pgvector is not installed in the database and the role may not do it (${(cause as Error).message}): as a superuser run create extension vector schema public`,
      { cause },
    );
  }
}

async function readKnown(
  client: pg.Client,
  { name, members }: Pick<KnownNode, 'name' | 'members'>,
): Promise<KnownNode> {
  const identity = await client.query<NonNullable<KnownNode['identity']>>(
    'select cluster, name, number, spare, zone, log, joining_since is not null as joining from pgquorum.node',
  );
  const collections = await client.query<{ count: number }>(
    'select count(*)::int as count from pgquorum.collection',
  );
  return {
    name,
    identity: identity.rows[0] ?? null,
    members,
    collections: collections.rows[0]!.count,
  };
}

/** What a node that was away has not heard of: others that go on under another number. */
async function adoptNumbers(clients: readonly pg.Client[], known: readonly KnownNode[]): Promise<void> {
  for (const [at, client] of clients.entries())
    for (const other of known)
      if (other.identity !== null && other.name !== known[at]!.name)
        await adoptNumber(client, { ...other.identity, name: other.name });
}

async function writeIdentity(
  client: pg.Client,
  options: FoundOptions,
  numbered: readonly FoundNode[],
  {
    at,
    joins,
    members,
  }: { readonly at: number; readonly joins: boolean; readonly members: readonly MemberRow[] },
): Promise<void> {
  const self = numbered[at]!;
  await client.query('begin');
  await client.query(
    `insert into pgquorum.node (cluster, name, number, spare, zone, log, joining_since, system_identifier, timeline, started)
     values ($1, $2, $3, $4, $5, $6, case when $7 then clock_timestamp() end, coalesce((select system_identifier::text from pg_control_system()), 'unknown'), substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), pg_postmaster_start_time())
     on conflict (only_row) do update set zone = excluded.zone, spare = coalesce(node.spare, excluded.spare)`,
    [options.cluster, self.name, self.number, self.spare, options.nodes[at]!.zone, options.log, joins],
  );
  await client.query(
    `insert into pgquorum.member (number, name, zone, spare, retired, url, weight, change)
     select m.number, m.name, m.zone, m.spare, m.retired, m.url, m.weight, m.change
     from jsonb_to_recordset($1::jsonb) as m(number smallint, name text, zone text, spare boolean, retired boolean, url text, weight float8, change text)
     on conflict (number) do update set zone = excluded.zone, url = coalesce(excluded.url, member.url), weight = case when excluded.url is null then member.weight else excluded.weight end
       where member.zone <> excluded.zone or excluded.url is distinct from member.url`,
    [JSON.stringify(memberRows(options, numbered, members))],
  );
  await client.query(
    'insert into pgquorum.heartbeat (number, at) values ($1, clock_timestamp()) on conflict do nothing',
    [self.number],
  );
  await client.query('commit');
  await noteOwn(client);
}

/** Those that belong to the cluster now, and what is remembered of those that did: a number is never given out again. */
function memberRows(
  { nodes, adding }: FoundOptions,
  numbered: readonly FoundNode[],
  members: readonly MemberRow[],
): MemberRow[] {
  const now = numbered.flatMap((node, at): MemberRow[] => {
    const { zone, url, weight } = nodes[at]!;
    const before = members.find(({ number }) => number === (node.number as number));
    // Only what the lists of processes need not have is kept: they may reach a node at other addresses than this one.
    const kept =
      node.name === adding ? { url, weight } : { url: before?.url ?? null, weight: before?.weight ?? 1 };
    const row = { name: node.name, zone, retired: false, change: before?.change ?? null };
    return [
      { ...row, ...kept, number: node.number, spare: false },
      ...(node.spare === null
        ? []
        : [{ ...row, number: node.spare, spare: true, url: null, weight: 1, change: null }]),
    ];
  });
  return [
    ...now,
    ...members.filter(
      ({ name, number }) => isRemoved(name, members) && !now.some((one) => one.number === number),
    ),
  ];
}

/** The sources of the node at `at`: with the WAL one slot on every peer, with Kafka one slot of its own that feeds its topic. */
async function makeSources(
  clients: readonly pg.Client[],
  numbered: readonly FoundNode[],
  at: number,
  client: pg.Client,
  options: FoundOptions,
  joins: boolean,
): Promise<void> {
  const target = numbered[at]!;
  if (options.log === 'kafka') {
    await makeSource({
      target: client,
      origin: client,
      number: target.number,
      log: 'capture',
      slot: logSlot(options.cluster, target.number),
    });
    if (joins) return;
    for (const node of numbered.filter((node) => node.number !== target.number)) {
      await client.query(
        `insert into pgquorum.source (origin, log, state, generation) values ($1, 'kafka', 'ready', '') on conflict do nothing`,
        [node.number],
      );
    }
    return;
  }
  if (joins) return; // its edges begin as ones that have missed everything (membership/join.pg.ts)
  for (const [index, node] of numbered.entries()) {
    if (index === at) continue;
    await makeSource({
      target: client,
      origin: clients[index]!,
      number: node.number,
      log: 'wal',
      slot: edgeSlot(options.cluster, node.number, target.number),
    });
  }
}

interface SourceOptions {
  readonly target: pg.Client;
  readonly origin: pg.Client;
  readonly number: NodeNumber;
  readonly log: 'wal' | 'capture';
  readonly slot: string;
}

async function makeSource(options: SourceOptions): Promise<void> {
  const { target, origin, number, log, slot } = options;
  const found = await target.query<{ state: string }>(
    'select state from pgquorum.source where origin = $1 and log = $2',
    [number, log],
  );
  // One that is being mended is the matter of the edge that does it.
  if (found.rows[0] !== undefined && found.rows[0].state !== 'creating') return;
  await target.query(
    `insert into pgquorum.source (origin, log, state, slot, generation) values ($1, $2, 'creating', $3, '') on conflict do nothing`,
    [number, log, slot],
  );
  failpoint('source-announced');
  await origin.query(
    'select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active and database = current_database()',
    [slot],
  );
  const made = await origin.query<{ lsn: string; position: string }>(
    `select lsn::text, (lsn - '0/0'::pg_lsn)::bigint::text as position from pg_create_logical_replication_slot($1, 'pgoutput')`,
    [slot],
  );
  failpoint('source-slot-made');
  const publication = await origin.query<{ oid: number }>(
    'select oid from pg_publication where pubname = $1',
    [publicationName],
  );
  if (publication.rows.length === 0)
    throw new PgquorumError('node_misfit', `the publication ${publicationName} is missing`);
  await target.query(
    `with first as (
       insert into pgquorum.progress (origin, log, stream, lane, position) values ($1, $2, 0, 0, $5)
       on conflict (origin, log, stream, lane) do update set position = excluded.position
     ), others as (
       delete from pgquorum.progress where origin = $1 and log = $2 and (stream, lane) <> (0, 0)
     )
     update pgquorum.source set state = 'ready', publication = $3, generation = $4, lanes = 1, problem = null, problem_since = null where origin = $1 and log = $2`,
    [number, log, publication.rows[0]!.oid, made.rows[0]!.lsn, made.rows[0]!.position],
  );
}
