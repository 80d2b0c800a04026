/**
 * The nodes as a gateway uses them: a pool each, and whether it can be reached. A node counts as up until a connection or a probe fails, and as up
 * again with the first probe that succeeds. Probes run on connections of their own, so that busy pools don't look like a dead node.
 */
import pg from 'pg';
import { sentTypes, typeSql, type SentType } from '../collections/definition.ts';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { clientConfig, createPool } from '../postgres/connect.pg.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { quoteName, quoteText } from '../postgres/identifier.ts';
import { withSession } from '../postgres/session.pg.ts';
import { isConnectionError, sqlStateOf } from '../postgres/sqlstate.ts';
import type { NodeNumber } from '../versioning/version.ts';
import type { ClusterNode } from './found.pg.ts';

const probeUpMs = 1000;
const probeDownMs = 200;
const probeTimeoutMs = 2000;
const connectTimeoutMs = 2000;
const checkClientMs = 500;
const tooManyConnections = '53300';
const readOnly = '25006';

/** Should the next node be asked after this error? Anything that this node can not do now and another one may. */
export function isNodeFailure(error: unknown): boolean {
  if (error instanceof PgquorumError) return error.code === 'node_unreachable';
  const sqlstate = sqlStateOf(error);
  return (
    isConnectionError(error) || sqlstate === readOnly || (sqlstate !== null && sqlstate.startsWith('53'))
  );
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
  #joining: boolean;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #typeOids: Promise<Readonly<Record<SentType, number>>> | undefined;

  constructor(node: ClusterNode, poolMax: number, application: string) {
    this.name = node.name;
    this.number = node.number;
    this.spare = node.spare;
    this.address = node.address;
    this.#joining = node.joining ?? false;
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

  /** It is being filled: it would answer without error, and be wrong. */
  get isJoining(): boolean {
    return this.#joining;
  }

  /** Runs on a connection of this node. Errors that mean "ask another node" satisfy isNodeFailure. */
  async run<T>(deadline: Deadline, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    try {
      return await withSession({ pool: this.pool, deadline, onLost: (cut) => this.#register(cut) }, work);
    } catch (cause) {
      if (isConnectionError(cause) && sqlStateOf(cause) !== tooManyConnections) this.#noticeLoss();
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
          if (isConnectionError(cause)) this.#noticeLoss();
          throw cause;
        },
      );
    return (await this.#typeOids)[type];
  }

  /** A lost connection may be the node or only the connection: the probe that follows at once decides. */
  #noticeLoss(): void {
    this.#up = false;
    this.#schedule(0);
  }

  #register(cut: () => void): () => void {
    this.#inflight.add(cut);
    return () => this.#inflight.delete(cut);
  }

  #schedule(afterMs = this.#up ? probeUpMs : probeDownMs): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#probe(), afterMs);
    this.#timer.unref();
  }

  async #probe(): Promise<void> {
    try {
      const { rows } = await this.statusPool.query<{ joining: boolean }>(
        'select joining_since is not null as joining from pgquorum.node',
      );
      this.#joining = rows[0]?.joining ?? false;
      this.#up = true;
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

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await Promise.all([this.pool.end(), this.statusPool.end()]);
  }
}

export class Nodes {
  readonly all: readonly Node[];
  readonly #byName: ReadonlyMap<string, Node>;
  readonly #nameByNumber: Map<number, string>;
  readonly #zone: string | undefined;
  #turn = 0;

  constructor(
    nodes: readonly ClusterNode[],
    options: {
      readonly poolMax: number;
      readonly zone?: string | undefined;
      /** As the servers see it. */
      readonly application?: string;
    },
  ) {
    this.all = nodes.map(
      (node) => new Node(node, options.poolMax, options.application ?? 'pgquorum gateway'),
    );
    this.#byName = new Map(this.all.map((node) => [node.name, node]));
    this.#nameByNumber = new Map(
      this.all.flatMap((node) => [
        [node.number as number, node.name] as const,
        [(node.spare ?? node.number) as number, node.name] as const,
      ]),
    );
    this.#zone = options.zone;
  }

  get live(): readonly Node[] {
    return this.all.filter((node) => node.isUp && !node.isJoining);
  }

  /** Those that do not join. */
  get settled(): readonly Node[] {
    return this.all.filter((node) => !node.isJoining);
  }

  byName(name: string): Node | undefined {
    return this.#byName.get(name);
  }

  learnNames(members: readonly { readonly number: number; readonly name: string }[]): void {
    for (const { number, name } of members) this.#nameByNumber.set(number, name);
  }

  /** The name behind a number; a node keeps its name when it takes another number. */
  nameOf(number: number): string {
    return this.#nameByNumber.get(number) ?? String(number);
  }

  /** Nodes to ask in this order, none that is joining: those that are up first; with `nearest`, those of this process's zone before others. */
  inOrder(names: readonly string[], choice: 'primary' | 'nearest' = 'primary'): Node[] {
    const nodes = names.flatMap((name) => this.byName(name) ?? []).filter((node) => !node.isJoining);
    const rank = (node: Node) =>
      (node.isUp ? 0 : 2) + (choice === 'nearest' && node.zone !== this.#zone ? 1 : 0);
    return nodes.toSorted((a, b) => rank(a) - rank(b));
  }

  /** Any nodes, nearest first, taking turns among those that are equally near. */
  anyOrder(): Node[] {
    this.#turn = (this.#turn + 1) % this.all.length;
    const turned = [...this.all.slice(this.#turn), ...this.all.slice(0, this.#turn)];
    return this.inOrder(
      turned.map((node) => node.name),
      'nearest',
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((node) => node.close()));
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
