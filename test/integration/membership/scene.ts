/** A cluster of some of a test's databases, with a replicator process that serves all nodes, a gateway, and users who write all the time. */
import { join } from 'node:path';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import type { Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { AppProcess } from '../convergence/processes.ts';
import { startGateway, type TestGateway } from '../gateway-fixture.ts';

export interface JobBody {
  readonly id: string;
  readonly state: string;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly code: string; readonly detail: string };
}

export interface SceneOptions {
  readonly log: 'wal' | 'kafka';
  /** Databases, of which the first `members` are nodes. */
  readonly databases: number;
  readonly members: number;
  /** Databases on servers of their own, which may be killed. */
  readonly masters?: Masters;
  /** A replicator process for each of the members instead of one for all. */
  readonly each?: boolean;
  readonly env?: Record<string, string>;
}

export class Scene implements AsyncDisposable {
  readonly fresh: Pick<FreshNodes, 'nodes' | 'cluster'> & AsyncDisposable;
  readonly gateway: TestGateway;
  readonly replicators: readonly AppProcess[];
  readonly brokers: readonly string[] | null;
  readonly #folder: string;
  readonly #users = new Set<Users>();
  #ended = false;

  private constructor(
    fresh: Scene['fresh'],
    parts: {
      gateway: TestGateway;
      replicators: readonly AppProcess[];
      folder: string;
      brokers: readonly string[] | null;
    },
  ) {
    this.fresh = fresh;
    this.gateway = parts.gateway;
    this.replicators = parts.replicators;
    this.brokers = parts.brokers;
    this.#folder = parts.folder;
  }

  static async start({ log, databases, members, masters, each, env = {} }: SceneOptions): Promise<Scene> {
    const fresh =
      masters === undefined
        ? await freshNodes({ count: databases })
        : {
            nodes: masters.nodes,
            cluster: `m${Math.random().toString(36).slice(2, 10)}`,
            [Symbol.asyncDispose]: () => Promise.resolve(),
          };
    const brokers = log === 'kafka' ? (await sharedKafka()).brokers : null;
    const folder = mkdtempSync(join(tmpdir(), 'pgquorum-members-'));
    const nodes = fresh.nodes.slice(0, members);
    const settings = {
      ...(brokers === null ? {} : { PGQUORUM_KAFKA_BROKERS: brokers.join(',') }),
      PGQUORUM_HEARTBEAT_INTERVAL_MS: '200',
      ...env,
    };
    const gateway = await startGateway({ nodes, cluster: fresh.cluster, env: settings });
    const replicators = (each === true ? nodes.map(({ name }) => name) : [null]).map(
      (name) =>
        new AppProcess(
          'replicator',
          {
            ...settings,
            PGQUORUM_NODES: JSON.stringify(
              nodes.map((one) => ({ name: one.name, url: one.url, zone: one.zone })),
            ),
            PGQUORUM_CLUSTER: fresh.cluster,
            ...(name === null ? {} : { PGQUORUM_REPLICATOR_NODES: name }),
          },
          join(folder, 'replicator.log'),
        ),
    );
    return new Scene(fresh, { gateway, replicators, folder, brokers });
  }

  /** The one that serves all. */
  get replicator(): AppProcess {
    return this.replicators[0]!;
  }

  get log(): string {
    return readFileSync(join(this.#folder, 'replicator.log'), 'utf8');
  }

  users(collection: string, sqlNodes: readonly number[]): Users {
    const users = new Users(this, collection, sqlNodes);
    this.#users.add(users);
    return users;
  }

  async query<T extends object>(node: number, sql: string, values: unknown[] = []): Promise<T[]> {
    const client = new pg.Client(this.fresh.nodes[node]!.url);
    await client.connect();
    try {
      return (await client.query<T>(sql, values)).rows;
    } finally {
      await client.end();
    }
  }

  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await this.gateway.send(method, path, body === undefined ? {} : { body })).body as T;
  }

  job = async (id: string): Promise<JobBody> => this.call<JobBody>('GET', `/v1/jobs/${id}`);

  /** For when something does not come. */
  async explain(id: string): Promise<string> {
    return `${JSON.stringify(await this.job(id))}\n${this.log.split('\n').slice(-30).join('\n')}`;
  }

  async finished(id: string): Promise<JobBody> {
    return eventually(
      `job ${id} ends`,
      async () => {
        const job = await this.job(id);
        return ['done', 'failed', 'cancelled'].includes(job.state) ? job : null;
      },
      { withinMs: 120_000 },
    ).catch(async (cause: unknown) => {
      throw new Error(await this.explain(id), { cause });
    });
  }

  /** Rows with their versions, as one text for each key. */
  async state(node: number, collection: string): Promise<string[]> {
    const rows = await this.query<{ line: string }>(
      node,
      `select (v.id, v.hlc, v.origin, v.counter, v.clock, v.deleted, t.embedding)::text as line
       from pgquorum.version_${collection} v left join ${collection} t using (id) order by v.id`,
    );
    return rows.map(({ line }) => line);
  }

  async converged(nodes: readonly number[], collection: string): Promise<void> {
    await eventually(
      `nodes ${nodes.join(', ')} hold the same`,
      async () => {
        const states = await Promise.all(nodes.map((node) => this.state(node, collection)));
        return states.every((state) => state.join('\n') === states[0]!.join('\n')) && states[0]!.length > 0;
      },
      { withinMs: 60_000 },
    );
  }

  /** Everything on a node that names a node or a number: slots of the cluster, publications, and rows. */
  async traces(
    node: number,
  ): Promise<{ slots: string[]; publications: string[]; origins: number[]; names: string[] }> {
    const of = async (sql: string, values: unknown[] = []): Promise<string[]> =>
      (await this.query<{ one: string }>(node, sql, values)).map(({ one }) => one);
    const founded = (await of(`select to_regclass('pgquorum.node')::text as one`))[0] !== null;
    const origins = founded
      ? await of(
          `select distinct origin::text as one from (select origin from pgquorum.source union all select origin from pgquorum.progress union all select origin from pgquorum.resync
             union all select origin from pgquorum.pause union all select origin from pgquorum.parked union all select origin from pgquorum.watched union all select target from pgquorum.watched) o`,
        )
      : [];
    return {
      slots: await of(
        'select slot_name as one from pg_replication_slots where database = current_database() and starts_with(slot_name, $1) order by 1',
        [`pgquorum_${this.fresh.cluster}_`],
      ),
      publications: await of('select pubname as one from pg_publication'),
      origins: origins.map(Number).sort((a, b) => a - b),
      names: founded
        ? await of(
            'select distinct name as one from (select m.name from pgquorum.member m where not m.retired union all select r.name from pgquorum.remembered r) n order by 1',
          )
        : [],
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await Promise.all([...this.#users].map((users) => users.stop()));
    await Promise.all(this.replicators.map((replicator) => replicator.kill('SIGKILL')));
    await this.gateway[Symbol.asyncDispose]();
    await this.fresh[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Writes through the gateway and by SQL until it is stopped; every answer of the gateway has to be a success. */
export class Users {
  readonly #scene: Scene;
  readonly #done: Promise<void>;
  readonly #stopped = new AbortController();
  /** Ids of rows that were acknowledged, each written once. */
  readonly written: string[] = [];
  readonly refused: string[] = [];
  /** SQLSTATEs. */
  readonly refusedSql: string[] = [];

  constructor(scene: Scene, collection: string, sqlNodes: readonly number[]) {
    this.#scene = scene;
    this.#done = this.#write(collection, sqlNodes);
  }

  async #write(collection: string, sqlNodes: readonly number[]): Promise<void> {
    const clients = new Map<number, pg.Client>();
    for (const node of sqlNodes) {
      const client = new pg.Client(this.#scene.fresh.nodes[node]!.url);
      client.on('error', () => undefined); // the statement that notices it rejects
      await client.connect();
      clients.set(node, client);
    }
    for (let at = 0; !this.#stopped.signal.aborted; at += 1) {
      const id = `w${at % 50}`;
      const answer = await this.#scene.gateway.send(
        'POST',
        `/v1/collections/${collection}/vectors?consistency=one`,
        { body: { vectors: [{ id, embedding: [at, 1, 2] }] } },
      );
      if (
        answer.status !== 200 ||
        (answer.body as { results: object[] }).results.some((one) => 'error' in one)
      )
        this.refused.push(JSON.stringify(answer.body));
      for (const [node, client] of clients) await this.#sql(client, collection, `n${node}-${at}`);
      await sleep(20);
    }
    await Promise.all([...clients.values()].map((client) => client.end()));
  }

  /** A row of its own, and one that all nodes write. */
  async #sql(client: pg.Client, collection: string, id: string): Promise<void> {
    try {
      await client.query(
        `insert into ${collection} (id, embedding) values ($1, '[1,1,1]'), ($2, '[1,2,1]') on conflict (id) do update set embedding = excluded.embedding`,
        [id, `s${id.length}`],
      );
      this.written.push(id);
    } catch (cause) {
      this.refusedSql.push((cause as { code?: string }).code ?? String(cause));
    }
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#done;
  }
}
