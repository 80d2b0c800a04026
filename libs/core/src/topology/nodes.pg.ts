/**
 * The nodes as a gateway uses them: a pool each, and whether it can be reached. A node counts as up until a connection or a probe fails, and as up
 * again with the first probe that succeeds. Probes run on connections of their own, so that busy pools don't look like a dead node.
 *
 * Each probe also reads whom the node knows as members: a node that was added is taken in, one that was removed is let go of, without a restart. What was begun
 * on it goes on elsewhere.
 */
import pg from 'pg';
import { sentTypes, typeSql, type SentType } from '../collections/definition.ts';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { clientConfig, createPool } from '../postgres/connect.pg.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { quoteName, quoteText } from '../postgres/identifier.ts';
import { within, withSession } from '../postgres/session.pg.ts';
import { isConnectionError, sqlStateOf } from '../postgres/sqlstate.ts';
import { isRemoved, joinMembers, numberOf, resolveNodes, type MemberRow } from '../membership/members.ts';
import type { NodeNumber } from '../versioning/version.ts';
import type { ClusterNode } from './found.pg.ts';

const probeUpMs = 1000;
const probeDownMs = 200;
const probeTimeoutMs = 2000;
const connectTimeoutMs = 2000;
const checkClientMs = 500;
const tooManyConnections = '53300';
const readOnly = '25006';
/** The node leaves the cluster, or was declared lost. */
const noMaster = 'PQ013';

/** Should the next node be asked after this error? Anything that this node can not do now and another one may. */
export function isNodeFailure(error: unknown): boolean {
  if (error instanceof PgquorumError) return error.code === 'node_unreachable';
  const sqlstate = sqlStateOf(error);
  return (
    isConnectionError(error) ||
    sqlstate === readOnly ||
    sqlstate === noMaster ||
    (sqlstate !== null && sqlstate.startsWith('53'))
  );
}

const probeSql = `select n.joining_since is not null as joining, exists (select from pgquorum.member m where m.number = n.number and m.change is not null) as leaving,
    (select json_agg(json_build_object('number', m.number, 'name', m.name, 'zone', m.zone, 'spare', m.spare, 'retired', m.retired, 'url', m.url, 'weight', m.weight, 'change', m.change)) from pgquorum.member m) as members
  from pgquorum.node n`;

/** `joining` is null while nobody knows: it may be empty, and it may have what others count on. */
type KnownNode = Omit<ClusterNode, 'joining'> & { readonly joining: boolean | null };

interface NodeOptions {
  readonly poolMax: number;
  /** As the servers see it. */
  readonly application: string;
  readonly onMembers: (node: Node, members: readonly MemberRow[]) => void;
}

export class Node {
  readonly name: string;
  readonly number: NodeNumber;
  readonly spare: NodeNumber | null;
  readonly address: NodeAddress;
  readonly pool: pg.Pool;
  /** For probes and status: few connections that nothing else waits on. */
  readonly statusPool: pg.Pool;
  readonly #inflight = new Set<() => void>();
  #up = true;
  /** Null until it has been asked. */
  #joining: boolean | null;
  #leaving = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #typeOids: Promise<Readonly<Record<SentType, number>>> | undefined;

  readonly #onMembers: NodeOptions['onMembers'];

  constructor(node: KnownNode, { poolMax, application, onMembers }: NodeOptions) {
    this.#onMembers = onMembers;
    this.name = node.name;
    this.number = node.number;
    this.spare = node.spare;
    this.address = node.address;
    this.#joining = node.joining;
    this.pool = createPool(node.address, {
      application,
      max: poolMax,
      pipeline: true,
      connectTimeoutMs,
    });
    this.statusPool = new pg.Pool({
      ...clientConfig(node.address, { application: `${application} status`, connectTimeoutMs }),
      max: 2,
      query_timeout: probeTimeoutMs,
      idleTimeoutMillis: 30_000,
    });
    // A connection that is lost while it is checked out shows in the query that runs on it, or in the next one.
    for (const pool of [this.pool, this.statusPool])
      pool.on('connect', (client) => client.on('error', () => undefined));
    // A statement that waits for a lock ends soon after its caller has gone. A server on a platform that can't tell refuses the setting, and does without.
    this.pool.on(
      'connect',
      (client) =>
        void client.query(`set client_connection_check_interval = ${checkClientMs}`).catch(() => undefined),
    );
    this.statusPool.on('error', () => undefined); // an idle connection was lost: the pool makes a new one
    this.#schedule();
  }

  get zone(): string {
    return this.address.zone;
  }

  get isUp(): boolean {
    return this.#up;
  }

  /** It is being filled: it would answer without error, and be wrong. Or it is about to go: what is written elsewhere need not be handed over. */
  get isAside(): boolean {
    return this.#joining !== false || this.#leaving;
  }

  /** It is being filled, and is no replica of anything yet. Of one that can not be asked it is not known: it may have joined. */
  get isJoining(): boolean {
    return this.#up && this.#joining === true;
  }

  /** Runs on a connection of this node. Errors that mean "ask another node" satisfy isNodeFailure. */
  async run<T>(deadline: Deadline, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    if (this.#closed) throw new PgquorumError('node_unreachable', `node ${this.name} was removed`);
    try {
      return await withSession({ pool: this.pool, deadline, onLost: (cut) => this.whenLost(cut) }, work);
    } catch (cause) {
      if (isConnectionError(cause) && sqlStateOf(cause) !== tooManyConnections) this.noticeLoss();
      throw cause;
    }
  }

  /** Oid of a type of vectors here: binary arrays name the type of their elements. */
  async vectorOid(type: SentType): Promise<number> {
    this.#typeOids ??= this.statusPool
      .query<Record<SentType, number>>(
        `select ${sentTypes.map((name) => `${quoteText(typeSql[name])}::regtype::oid::int as ${quoteName(name)}`).join(', ')}`,
      )
      .then(
        (result) => result.rows[0]!,
        (cause: unknown) => {
          this.#typeOids = undefined;
          if (isConnectionError(cause)) this.noticeLoss();
          throw cause;
        },
      );
    return (await this.#typeOids)[type];
  }

  /** A lost connection may be the node or only the connection: the probe that follows at once decides. */
  noticeLoss(): void {
    this.#up = false;
    this.#schedule(0);
  }

  /** Calls `cut` when the node is found to be gone. Returns what unregisters it. */
  whenLost(cut: () => void): () => void {
    this.#inflight.add(cut);
    return () => this.#inflight.delete(cut);
  }

  /** Asks the node now who its members are. */
  async lookAgain(): Promise<void> {
    if (!this.#closed) await this.#probe();
  }

  #schedule(afterMs = this.#up ? probeUpMs : probeDownMs): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#probe(), afterMs);
    this.#timer.unref();
  }

  async #probe(): Promise<void> {
    try {
      const { rows } = await this.statusPool.query<{
        joining: boolean;
        leaving: boolean;
        members: MemberRow[] | null;
      }>(probeSql);
      this.#joining = rows[0]?.joining ?? false;
      this.#leaving = rows[0]?.leaving ?? false;
      this.#up = true;
      if (!this.#closed) this.#onMembers(this, rows[0]?.members ?? []);
    } catch (cause) {
      // Too many connections says that somebody is there.
      if (sqlStateOf(cause) !== tooManyConnections) this.#lost();
    }
    this.#schedule();
  }

  /** What still waits for this node would wait for ever: it goes on elsewhere. */
  #lost(): void {
    this.#up = false;
    for (const cut of this.#inflight) cut();
  }

  /** What runs ends first. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    await Promise.all([this.pool.end(), this.statusPool.end()]);
  }
}

export interface NodesOptions {
  readonly poolMax: number;
  readonly zone?: string | undefined;
  /** As the servers see it. */
  readonly application?: string;
}

export class Nodes {
  #all: readonly Node[];
  #byName: ReadonlyMap<string, Node>;
  readonly #nameByNumber: Map<number, string>;
  readonly #options: NodesOptions;
  readonly #views = new Map<string, readonly MemberRow[]>();
  readonly #listeners = new Set<() => void>();
  readonly #closing = new Set<Promise<void>>();
  #turn = 0;

  constructor(nodes: readonly ClusterNode[], options: NodesOptions) {
    this.#options = options;
    this.#all = nodes.map((node) => this.#open({ joining: false, ...node }));
    this.#byName = new Map(this.#all.map((node) => [node.name, node]));
    this.#nameByNumber = new Map(
      this.#all.flatMap((node) => [
        [node.number as number, node.name] as const,
        [(node.spare ?? node.number) as number, node.name] as const,
      ]),
    );
  }

  #open(node: KnownNode): Node {
    const { poolMax, application = 'pgquorum gateway' } = this.#options;
    return new Node(node, {
      poolMax,
      application,
      onMembers: (from, members) => this.#learnMembers(from, members),
    });
  }

  /** Those of this moment. */
  get all(): readonly Node[] {
    return this.#all;
  }

  get live(): readonly Node[] {
    return this.#all.filter((node) => node.isUp && !node.isAside);
  }

  /** Those that do not join. */
  get settled(): readonly Node[] {
    return this.all.filter((node) => !node.isAside);
  }

  byName(name: string): Node | undefined {
    return this.#byName.get(name);
  }

  /** Called whenever nodes came or went. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** Whom the nodes know as members. */
  get members(): readonly MemberRow[] {
    return joinMembers([...this.#views.values()]);
  }

  #learnMembers(from: Node, members: readonly MemberRow[]): void {
    if (!this.#all.includes(from)) return;
    this.#views.set(from.name, members);
    const known = this.members;
    const addresses = resolveNodes(
      this.#all.map(({ address }) => address),
      known,
    ).nodes;
    const gone = this.#all.filter(({ name }) => isRemoved(name, known));
    const fresh = addresses.flatMap((address) => {
      const numbers = this.#byName.has(address.name) ? null : numberOf(address.name, known);
      return numbers === null ? [] : [this.#open({ name: address.name, ...numbers, address, joining: null })];
    });
    if (gone.length === 0 && fresh.length === 0) return;
    this.#all = [...this.#all.filter((node) => !gone.includes(node)), ...fresh];
    this.#byName = new Map(this.#all.map((node) => [node.name, node]));
    this.learnNames(known);
    for (const node of gone) {
      this.#views.delete(node.name);
      const closing = node.close().finally(() => this.#closing.delete(closing));
      this.#closing.add(closing);
    }
    for (const listener of this.#listeners) listener();
  }

  learnNames(members: readonly { readonly number: number; readonly name: string }[]): void {
    for (const { number, name } of members) this.#nameByNumber.set(number, name);
  }

  /** Asks all nodes now who the members are: another process has heard of a change before this one. Those that count as down are not waited for. */
  async lookAgain(deadline: Deadline): Promise<void> {
    const asked = this.#all.map((node) => ({ waited: node.isUp, answer: node.lookAgain() }));
    await within(deadline, Promise.all(asked.flatMap(({ waited, answer }) => (waited ? [answer] : []))));
  }

  /** The name behind a number; a node keeps its name when it takes another number. */
  nameOf(number: number): string {
    return this.#nameByNumber.get(number) ?? String(number);
  }

  /** Nodes to ask in this order, none that is joining or leaving: those that are up first; with `nearest`, those of this process's zone before others. */
  inOrder(names: readonly string[], choice: 'primary' | 'nearest' = 'primary'): Node[] {
    const nodes = names.flatMap((name) => this.byName(name) ?? []).filter((node) => !node.isAside);
    const rank = (node: Node) =>
      (node.isUp ? 0 : 2) + (choice === 'nearest' && node.zone !== this.#options.zone ? 1 : 0);
    return nodes.toSorted((a, b) => rank(a) - rank(b));
  }

  /** Any nodes, nearest first, taking turns among those that are equally near. */
  anyOrder(): Node[] {
    this.#turn = (this.#turn + 1) % Math.max(1, this.all.length);
    const turned = [...this.all.slice(this.#turn), ...this.all.slice(0, this.#turn)];
    return this.inOrder(
      turned.map((node) => node.name),
      'nearest',
    );
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all.map((node) => node.close()), ...this.#closing]);
  }
}

/** Does `work` on the first of these nodes that can. Nodes that count as down come last and are tried too: a probe may be behind. */
export async function onFirst<T>(
  nodes: readonly Node[],
  deadline: Deadline,
  work: (client: pg.PoolClient, node: Node) => Promise<T>,
): Promise<T> {
  let last: unknown;
  for (const node of nodes) {
    try {
      return await node.run(deadline, (client) => work(client, node));
    } catch (cause) {
      if (!isNodeFailure(cause)) throw cause;
      last = cause;
    }
  }
  throw new PgquorumError('replicas_unavailable', 'no node could do it', { cause: last });
}
