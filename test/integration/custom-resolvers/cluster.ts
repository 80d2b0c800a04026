/** Three masters with a gateway and a replicator that run custom resolvers, and writes that are concurrent for certain. */
import type { INestApplicationContext } from '@nestjs/common';
import pg from 'pg';
import type { ConflictView } from '#core/conflicts/view.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { ShardPlacement } from '#core/topology/shard-placement.ts';
import type { NodeNumber, ShardNumber } from '#core/versioning/version.ts';
import { startReplicator } from '../../../apps/replicator/src/app.module.ts';
import { REPLICATION, type Replication } from '../../../apps/replicator/src/tokens.ts';
import { settingsFor, startGateway, type Answer, type TestGateway } from '../gateway-fixture.ts';

export interface Row {
  readonly metadata: { readonly tags: readonly string[]; readonly asked?: number };
  readonly embedding: string;
}

const places = [0, 1, 2];
const shards = 8;

export async function startResolvingCluster(options: {
  readonly folder: string;
  readonly env?: Readonly<Record<string, string>>;
}): Promise<ResolvingCluster> {
  const fresh = await freshNodes({ count: places.length });
  const env = {
    PGQUORUM_RESOLVERS_DIR: options.folder,
    PGQUORUM_RESOLVER_TIMEOUT_MS: '400',
    ...options.env,
  };
  const gateway = await startGateway({ nodes: fresh.nodes, cluster: fresh.cluster, env, below: fresh });
  const start = () =>
    startReplicator(
      settingsFor(fresh.nodes, fresh.cluster, env),
      createLogger({ app: 'test', level: 'silent' }),
    );
  return new ResolvingCluster(gateway, start, await start());
}

export class ResolvingCluster implements AsyncDisposable {
  readonly #gateway: TestGateway;
  readonly #start: () => Promise<INestApplicationContext>;
  readonly #pools: readonly pg.Pool[];
  #first: INestApplicationContext | null;

  constructor(
    gateway: TestGateway,
    start: () => Promise<INestApplicationContext>,
    first: INestApplicationContext,
  ) {
    this.#gateway = gateway;
    this.#start = start;
    this.#first = first;
    this.#pools = gateway.nodes.map((node) => new pg.Pool({ connectionString: node.url, max: 3 }));
  }

  startReplicator(): Promise<INestApplicationContext> {
    return this.#start();
  }

  async stopFirst(): Promise<void> {
    await this.#first?.close();
    this.#first = null;
  }

  send(method: string, path: string, body?: unknown): Promise<Answer> {
    return this.#gateway.send(method, path, body === undefined ? {} : { body });
  }

  async sql<R extends pg.QueryResultRow>(place: number, text: string, values: unknown[] = []): Promise<R[]> {
    return (await this.#pools[place]!.query<R>(text, values)).rows;
  }

  async everywhere(text: string): Promise<void> {
    for (const place of places) await this.sql(place, text);
  }

  async create(name: string, resolver: string): Promise<void> {
    const body = {
      dimension: 3,
      shards,
      index: { type: 'none' },
      conflicts: { strategy: 'custom', resolver },
    };
    const answer = await this.send('PUT', `/v1/collections/${name}`, body);
    if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
  }

  async #write(
    client: pg.Pool | pg.PoolClient,
    from: { place: number; name: string; key: string; tags: readonly string[] | null },
  ): Promise<void> {
    const { place, name, key, tags } = from;
    if (tags === null) await client.query(`delete from ${name} where id = $1`, [key]);
    else
      await client.query(
        `insert into ${name} (id, embedding, metadata) values ($1, $2, $3) on conflict (id) do update set embedding = excluded.embedding, metadata = excluded.metadata`,
        [key, JSON.stringify(places.map((at) => (at === place ? 1.5 : 0))), JSON.stringify({ tags })],
      );
  }

  async put(place: number, name: string, key: string, tags: readonly string[] | null): Promise<void> {
    await this.#write(this.#pools[place]!, { place, name, key, tags });
  }

  /** One write at each master, one tag each (null: a delete), none of which can have seen another: all are made before the first commits. */
  async race(name: string, key: string, tags: readonly (string | null)[]): Promise<void> {
    const clients = await Promise.all(tags.map((_, place) => this.#pools[place]!.connect()));
    try {
      for (const [place, tag] of tags.entries()) {
        await clients[place]!.query('begin');
        await this.#write(clients[place]!, { place, name, key, tags: tag === null ? null : [tag] });
      }
      await Promise.all(clients.map((client) => client.query('commit')));
    } finally {
      for (const client of clients) client.release();
    }
  }

  /** The row of a key on each master. */
  async rows(name: string, key: string): Promise<(Row | null)[]> {
    return Promise.all(
      places.map(
        async (place) =>
          (
            await this.sql<Row>(place, `select metadata, embedding::text from ${name} where id = $1`, [key])
          )[0] ?? null,
      ),
    );
  }

  async seenEverywhere(name: string, key: string, tags: readonly string[]): Promise<void> {
    await eventually(`${key} is everywhere`, async () =>
      (await this.rows(name, key)).every(
        (row) => JSON.stringify(row?.metadata.tags) === JSON.stringify(tags),
      ),
    );
  }

  /** Nothing is open, rows and versions are the same everywhere, and all stays so. */
  async settled(name: string): Promise<void> {
    const state = async (place: number) =>
      (
        await this.sql<{ line: string }>(
          place,
          `select line from (
             select 'row ' || t::text as line from ${name} t
             union all select 'version ' || (to_jsonb(v) - 'applied' - 'seen' || jsonb_build_object('seen', coalesce(v.seen, v.clock)))::text from pgquorum.version_${name} v
             union all select 'open ' || c.id from pgquorum.conflict c where c.collection = $1 and c.state = 'open') l order by 1`,
          [name],
        )
      ).map(({ line }) => line);
    let last = '';
    let same = 0;
    await eventually(
      `${name} is resolved everywhere`,
      async () => {
        const states = await Promise.all(places.map(async (place) => (await state(place)).join('\n')));
        const agrees = new Set(states).size === 1 && !states[0]!.includes('open ');
        same = agrees && states[0] === last ? same + 1 : 0;
        last = states[0]!;
        return same >= 5;
      },
      { everyMs: 100, withinMs: 50_000 },
    );
  }

  async conflicts(name: string, key?: string): Promise<{ items: ConflictView[] }> {
    const filter = key === undefined ? '' : `&key=${encodeURIComponent(key)}`;
    const { status, body } = await this.send('GET', `/v1/conflicts?collection=${name}&limit=1000${filter}`);
    if (status !== 200) throw new Error(JSON.stringify(body));
    return body as { items: ConflictView[] };
  }

  /** Of the first replicator. */
  async metric(metric: string, collection: string): Promise<number> {
    const { metrics } = this.#first!.get<Replication>(REPLICATION);
    const found = (await metrics.registry.getMetricsAsJSON()).find((one) => one.name === metric)!;
    return found.values
      .filter(({ labels }) => (labels as { collection?: string }).collection === collection)
      .reduce((sum, { value }) => sum + Number(value), 0);
  }

  async primaryOf(name: string, key: string): Promise<string> {
    const [row] = await this.sql<{ shard: number }>(
      0,
      `select (pgquorum.key_hash($1) % ${shards})::integer as shard`,
      [key],
    );
    const nodes = this.#gateway.nodes.map(({ name }, at) => ({
      name,
      number: (at + 1) as NodeNumber,
      address: { zone: 'default', weight: 1 },
    }));
    const placement = new ShardPlacement(nodes, { placement: 'ketama', virtualNodes: 150 });
    return placement.nodesOf(name, row!.shard as ShardNumber)[0]!;
  }

  async primaryPlace(name: string, key: string): Promise<number> {
    const primary = await this.primaryOf(name, key);
    return this.#gateway.nodes.findIndex((node) => node.name === primary);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#pools.map((pool) => pool.end()));
    await this.stopFirst();
    await this.#gateway[Symbol.asyncDispose]();
  }
}
