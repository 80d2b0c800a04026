/** Two masters with a real replicator, and users who write another collection all the while. */
import type { INestApplicationContext } from '@nestjs/common';
import pg from 'pg';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { openCluster } from '#core/topology/open-cluster.pg.ts';
import { startReplicator } from '../../../apps/replicator/src/app.module.ts';
import { settingsFor } from '../gateway-fixture.ts';

const steady = 'steady';

export class DriftingCluster implements AsyncDisposable {
  readonly #fresh: FreshNodes;
  readonly #env: Record<string, string>;
  readonly #pools: readonly pg.Pool[];
  #replicator: INestApplicationContext | null = null;
  #writing: Promise<void> = Promise.resolve();
  #over = false;
  #written = 0;

  private constructor(fresh: FreshNodes, env: Record<string, string>) {
    this.#fresh = fresh;
    this.#env = env;
    this.#pools = fresh.nodes.map((node) => new pg.Pool({ connectionString: node.url, max: 3 }));
  }

  static async start(log: 'wal' | 'kafka'): Promise<DriftingCluster> {
    const fresh = await freshNodes({ count: 2 });
    const env: Record<string, string> =
      log === 'wal' ? {} : { PGQUORUM_KAFKA_BROKERS: (await sharedKafka()).brokers.join(',') };
    const cluster = new DriftingCluster(fresh, env);
    const { nodes } = settingsFor(fresh.nodes, fresh.cluster);
    await openCluster({ nodes: nodes!, cluster: fresh.cluster, log });
    await cluster.replicate();
    await cluster.create(steady);
    cluster.#writing = cluster.#write();
    return cluster;
  }

  async #write(): Promise<void> {
    while (!this.#over) {
      this.#written += 1;
      for (const place of [0, 1])
        await this.sql(place, `insert into ${steady} values ($1, '[1,2,3]')`, [`${place}-${this.#written}`]);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async replicate(): Promise<void> {
    this.#replicator = await startReplicator(
      settingsFor(this.#fresh.nodes, this.#fresh.cluster, this.#env),
      createLogger({ app: 'test', level: 'silent' }),
    );
  }

  async stop(): Promise<void> {
    await this.#replicator?.close();
    this.#replicator = null;
  }

  async create(name: string): Promise<void> {
    const { nodes } = settingsFor(this.#fresh.nodes, this.#fresh.cluster);
    await createCollection({ nodes: nodes!, name, definition: testDefinition });
  }

  async sql<R extends pg.QueryResultRow = Record<string, unknown>>(
    place: number,
    text: string,
    values: unknown[] = [],
  ): Promise<R[]> {
    return (await this.#pools[place]!.query<R>(text, values)).rows;
  }

  async everywhere(text: string): Promise<void> {
    for (const place of [0, 1]) await this.sql(place, text);
  }

  /** Why changes of a collection wait at a master. */
  async reasons(place: number, collection: string): Promise<string[]> {
    const rows = await this.sql<{ code: string; reason: string }>(
      place,
      'select code, reason from pgquorum.pause where collection = $1',
      [collection],
    );
    return rows.map(({ code, reason }) => `${code}: ${reason}`);
  }

  async pauses(place: number, collection: string, reason: RegExp): Promise<void> {
    await eventually(`${collection} pauses at ${place}: ${reason}`, async () =>
      (await this.reasons(place, collection)).some((one) => reason.test(one)),
    );
  }

  /** What is written now to another collection, in both directions, arrives. */
  async othersGoOn(): Promise<void> {
    const now = this.#written + 1;
    for (const [place, other] of [
      [0, 1],
      [1, 0],
    ])
      await eventually(
        `a write at ${place} arrives at ${other}`,
        async () =>
          (await this.sql(other!, `select from ${steady} where id = $1`, [`${place}-${now}`])).length === 1,
      );
    for (const place of [0, 1]) {
      const paused = await this.sql(place, 'select from pgquorum.pause where collection = $1', [steady]);
      if (paused.length > 0) throw new Error('the other collection is paused');
    }
  }

  async rows(place: number, collection: string): Promise<unknown[]> {
    return this.sql(place, `select to_jsonb(t) - 'embedding' as row from ${collection} t order by id`).then(
      (rows) => rows.map(({ row }) => row),
    );
  }

  /** Nothing waits or is given up, and both masters have the same rows, versions and open conflicts. */
  async settles(collection: string): Promise<unknown[]> {
    const state = async (place: number): Promise<string> =>
      JSON.stringify([
        await this.rows(place, collection),
        await this.sql(
          place,
          `select id, hlc, origin, counter, clock, coalesce(seen, clock) as seen, deleted from pgquorum.version_${collection} order by id`,
        ),
        await this.sql(
          place,
          `select key, loser_origin, loser_counter, loser_row from pgquorum.conflict where collection = '${collection}' and state = 'open' order by 1, 2, 3`,
        ),
      ]);
    await eventually(
      `${collection} is the same on both masters, and nothing waits`,
      async () => {
        for (const place of [0, 1])
          for (const table of ['pause', 'parked'])
            if (
              (await this.sql(place, `select from pgquorum.${table} where collection = $1`, [collection]))
                .length > 0
            )
              return false;
        return (await state(0)) === (await state(1));
      },
      { withinMs: 50_000, everyMs: 100 },
    );
    for (const place of [0, 1]) {
      const dead = await this.sql(
        place,
        'select key, message from pgquorum.dead_letter where collection = $1',
        [collection],
      );
      if (dead.length > 0) throw new Error(`dead letters at ${place}: ${JSON.stringify(dead)}`);
    }
    return this.rows(0, collection);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    await this.#writing;
    await this.stop();
    await Promise.all(this.#pools.map((pool) => pool.end()));
    await this.#fresh[Symbol.asyncDispose]();
  }
}
