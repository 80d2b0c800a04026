/**
 * Three masters with Kafka as the change log, a replicator for each, a gateway, and a writer on each master: for tests of what is made of a gap. A gap has to be
 * told of as an event, shown as the status of edge and replica and by the readiness of gateway and replicator, and mended without anybody's doing.
 */
import { expect } from '@jest/globals';
import { Kafka, logLevel, type Admin } from 'kafkajs';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { startMasters, type Masters, type TestMaster } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { topicName } from '#core/topology/names.ts';
import { AppProcess } from '../convergence/processes.ts';
import { startGateway, type TestGateway } from '../gateway-fixture.ts';
import { audit, query, settled, Writer, type Scene } from '../identity/scene.ts';

/** A machine that is busy with other tests. */
export const patient = { withinMs: 200_000 };

interface NodeEntry {
  readonly name: string;
  readonly url: string;
  readonly zone: string;
  readonly weight: number;
}

/** A replicator of one master. */
export class Replicator {
  readonly #app: AppProcess;
  readonly #log: string;

  constructor(env: Readonly<Record<string, string>>, log: string) {
    this.#log = log;
    this.#app = new AppProcess('replicator', env, log);
  }

  start = (): void => this.#app.start();
  kill = (signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> => this.#app.kill(signal);
  told = (): string => readFileSync(this.#log, 'utf8');

  async ready(): Promise<{ status: number; waiting: string[]; resyncs: string[]; stuck: string[] }> {
    const served = this.told()
      .split('\n')
      .findLast((line) => line.includes('metrics are served'));
    const { port } = JSON.parse(served ?? '{}') as { port: number };
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
    const body = (await answer.json()) as { waiting: string[]; resyncs: string[]; stuck: string[] };
    return { ...body, status: answer.status };
  }
}

export interface Gap {
  /** The origin of what was missed. */
  readonly from: string;
  /** Place of the master that has missed it. */
  readonly to: number;
  readonly reason: RegExp;
}

export class KafkaScene implements AsyncDisposable, Scene {
  readonly cluster: string;
  readonly brokers: readonly string[];
  readonly fixture: Masters;
  readonly masters: TestMaster[];
  readonly replicators: Replicator[];
  readonly writers: Writer[];
  readonly admin: Admin;
  readonly gateway: TestGateway;

  private constructor(
    fixture: Masters,
    { cluster, brokers }: { cluster: string; brokers: readonly string[] },
    { gateway, admin }: { gateway: TestGateway; admin: Admin },
  ) {
    this.cluster = cluster;
    this.brokers = brokers;
    this.fixture = fixture;
    this.masters = [...fixture.nodes];
    this.gateway = gateway;
    this.admin = admin;
    this.replicators = this.masters.map(({ name }) => this.replicator(name));
    this.writers = this.masters.map((master) => new Writer(master));
  }

  static async start(brokers: readonly string[]): Promise<KafkaScene> {
    const cluster = `gaps-${Math.random().toString(36).slice(2, 8)}`;
    const fixture = await startMasters({ count: 3 });
    const nodes = entriesOf(fixture.nodes);
    await foundCluster({ nodes, cluster, log: 'kafka' });
    await createCollection({ nodes, name: 'docs', definition: { ...testDefinition, shards: 4 } });
    await query(fixture.nodes[0]!, `insert into docs values ('locked', '[1,2,3]', '{}')`);
    const env = { PGQUORUM_KAFKA_BROKERS: brokers.join(',') };
    const gateway = await startGateway({ nodes, cluster, env });
    const admin = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    const scene = new KafkaScene(fixture, { cluster, brokers }, { gateway, admin });
    try {
      for (const replicator of scene.replicators) replicator.start();
      for (const to of scene.masters.keys())
        for (const { kept } of scene.writers) await scene.arrived(to, () => kept[3]);
      return scene;
    } catch (cause) {
      await scene[Symbol.asyncDispose]();
      throw cause;
    }
  }

  /** A replicator of one master; `masters` are those that it knows of, `more` goes into its environment. */
  replicator(
    name: string,
    masters: readonly TestMaster[] = this.masters,
    { log = name, more = {} }: { log?: string; more?: Readonly<Record<string, string>> } = {},
  ): Replicator {
    return new Replicator(
      {
        PGQUORUM_NODES: JSON.stringify(entriesOf(masters)),
        PGQUORUM_CLUSTER: this.cluster,
        PGQUORUM_KAFKA_BROKERS: this.brokers.join(','),
        PGQUORUM_KAFKA_PARTITIONS: '3',
        PGQUORUM_METRICS_PORT: '0',
        PGQUORUM_FAILURE_TIMEOUT_MS: '1500',
        PGQUORUM_HEARTBEAT_INTERVAL_MS: '300',
        PGQUORUM_REPLICATOR_NODES: name,
        ...more,
      },
      join(this.fixture.folder, `replicator-${log}.log`),
    );
  }

  async isThere(at: number, key: string | undefined): Promise<boolean> {
    const found = key === undefined ? [] : await query(this.masters[at]!, 'select from docs where id = $1', [key]); // prettier-ignore
    return found.length > 0;
  }

  async arrived(at: number, key: () => string | undefined): Promise<void> {
    await eventually(`${key() ?? 'a key'} is on n${at + 1}`, () => this.isThere(at, key()), patient);
  }

  /** A key that is written to a master from now on, with some others before it. */
  async written(at: number): Promise<string> {
    const { kept } = this.writers[at]!;
    const before = kept.length;
    await eventually(`n${at + 1} is written on`, () => kept.length > before + 3, patient);
    return kept.at(-1)!;
  }

  /** Removes all that the topic of a master holds, as its retention does in time. */
  async expire(name: string): Promise<void> {
    const topic = topicName(this.cluster, name);
    const offsets = await this.admin.fetchTopicOffsets(topic);
    const partitions = offsets.map(({ partition }) => ({ partition, offset: '-1' }));
    await this.admin.deleteTopicRecords({ topic, partitions });
  }

  /** The topic of `origin` that a master reads, as it knows it. */
  async generationAt(at: number, origin: string): Promise<string> {
    const [row] = await query<{ generation: string }>(
      this.masters[at]!,
      `select s.generation from pgquorum.source s join pgquorum.member m on m.number = s.origin where s.log = 'kafka' and m.name = $1 and not m.retired`,
      [origin],
    );
    return row!.generation;
  }

  /** How many events of this kind a master has told. */
  async happened(at: number, what: string): Promise<number> {
    const [row] = await query<{ count: number }>(
      this.masters[at]!,
      `select count(*)::int as count from pgquorum.event where type = 'resync' and body ->> 'happened' = $1`,
      [what],
    );
    return row!.count;
  }

  resyncs(): Promise<number[]> {
    return Promise.all(this.masters.map((_, at) => this.happened(at, 'started')));
  }

  /**
   * The copying is held up by a locked key until the gap has been seen everywhere where it has to show: an event with the reason, the status of edge and replica,
   * and the readiness of the gateway and of the replicator. Then it has to end by itself.
   */
  async showsAndMends({ from, to, reason }: Gap, lose: () => unknown): Promise<void> {
    const target = this.masters[to]!;
    const user = new pg.Client(target.url);
    await user.connect();
    try {
      const [mark] = await query<{ at: string }>(
        target,
        'select coalesce(max(arrival), 0)::text as at from pgquorum.event',
      );
      await user.query(`begin; select from docs where id = 'locked' for update`);
      await lose();
      expect(await this.#told(user, from, mark!.at)).toMatch(reason);
      await this.#showsResync(from, to);
    } finally {
      await user.end();
    }
    await eventually(
      `the edge from ${from} to ${target.name} is ready`,
      async () => {
        const rows = await query(
          target,
          `select from pgquorum.source s join pgquorum.member m on m.number = s.origin where m.name = $1 and s.log = 'kafka' and s.state = 'ready' and not m.retired`,
          [from],
        );
        return rows.length === 1;
      },
      patient,
    );
  }

  /** The reason that the first event about the edge gives. */
  #told(user: pg.Client, from: string, after: string): Promise<string> {
    return eventually(
      'the gap is told of',
      async () => {
        const { rows } = await user.query<{ reason: string }>(
          `select e.body ->> 'reason' as reason from pgquorum.event e join pgquorum.member m on m.number = (e.body ->> 'from')::int
           where e.type = 'resync' and e.body ->> 'happened' = 'started' and m.name = $1 and e.arrival > $2 order by e.arrival`,
          [from, after],
        );
        return rows[0]?.reason;
      },
      patient,
    );
  }

  async #showsResync(from: string, to: number): Promise<void> {
    const { name } = this.masters[to]!;
    await eventually(
      'the replicator is not ready',
      async () => {
        const ready = await this.replicators[to]!.ready();
        if (ready.status === 503 && ready.resyncs.includes(`${from} to ${name}`)) return true;
        throw new Error(JSON.stringify(ready));
      },
      patient,
    );
    await eventually(
      'the gateway shows it',
      async () => {
        const lag = (await this.gateway.send('GET', '/v1/replication/lag')).body as {
          edges: { from: string; to: string; state: string }[];
        };
        const replicas = (await this.gateway.send('GET', '/v1/replication/replicas')).body as {
          items: { id: string; status: string }[];
        };
        const edge = lag.edges.find((one) => one.from === from && one.to === name);
        const replica = replicas.items.find(({ id }) => id === name);
        if (edge?.state === 'resync' && replica?.status === 'resync') return true;
        throw new Error(JSON.stringify({ edge, replica }));
      },
      patient,
    );
    expect((await this.gateway.send('GET', '/readyz')).status).toBe(503);
  }

  /** All has been mended, and whoever asks is told so. */
  async allReady(): Promise<void> {
    await settled(this);
    for (const [at, replicator] of this.replicators.entries())
      await eventually(
        `the replicator of n${at + 1} is ready`,
        async () => (await replicator.ready()).status === 200,
        patient,
      );
    await eventually(
      'the gateway is ready',
      async () => (await this.gateway.send('GET', '/readyz')).status === 200,
      patient,
    );
  }

  /** In the end all masters hold the same, nothing is lost, and nothing deleted is back. */
  async finish(): Promise<void> {
    await Promise.all(this.writers.map((writer) => writer.stop()));
    await audit(this);
    for (const replicator of this.replicators) expect(await replicator.kill('SIGTERM')).toBe(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.writers.map((writer) => writer.stop()));
    await this.gateway[Symbol.asyncDispose]();
    await Promise.all(this.replicators.map((replicator) => replicator.kill('SIGKILL')));
    await this.admin.disconnect();
    await this.fixture[Symbol.asyncDispose]();
  }
}

const entriesOf = (masters: readonly TestMaster[]): NodeEntry[] =>
  masters.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
