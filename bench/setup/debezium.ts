/**
 * The baseline of capture: Debezium's connector for Postgres in a Kafka Connect worker of its own, tuned: parallel collector, 3 GB of heap, large batches,
 * no waiting. Its rows go as JSON without schemas, the smallest of what its stock converters write.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { withClient } from '#core/embedded/database.pg.ts';
import { freePorts } from '#core/embedded/ports.os.ts';
import { startGuarded, type GuardedServer } from '#core/testing/guarded-server.os.ts';
import { connectorJars } from '#core/testing/kafka-jars.os.ts';
import type { TestMaster } from '#core/testing/masters.pg.ts';
import { java21 } from './java.ts';

const name = 'debezium';
const waitMsMax = 120_000;

export interface DebeziumOptions {
  readonly folder: string;
  readonly master: TestMaster;
  readonly brokers: readonly string[];
  /** In the schema public. */
  readonly tables: readonly string[];
}

/** The topic of a table. It has to be made before rows come. */
export const debeziumTopic = (table: string): string => `${name}.public.${table}`;

export class Debezium implements AsyncDisposable {
  readonly #server: GuardedServer;
  readonly #url: string;
  readonly #master: TestMaster;

  private constructor(server: GuardedServer, url: string, master: TestMaster) {
    this.#server = server;
    this.#url = url;
    this.#master = master;
  }

  /** Resolves when it streams. */
  static async start(options: DebeziumOptions): Promise<Debezium> {
    const { folder, master, tables } = options;
    const jars = await connectorJars();
    if (jars.kind === 'unavailable') throw new Error(jars.reason);
    await withClient(master.superUrl, (client) =>
      client.query(
        `create publication ${name} for table ${tables.map((table) => `public.${table}`).join(', ')}`,
      ),
    );
    mkdirSync(folder, { recursive: true });
    const [port] = await freePorts(1);
    const url = `http://127.0.0.1:${port}`;
    const worker = write(join(folder, 'worker.properties'), workerProperties(options, url));
    const connector = write(join(folder, 'connector.properties'), connectorProperties(options));
    const logging = write(join(folder, 'log4j2.properties'), loggingProperties);
    const server = await startGuarded({
      folder,
      command: await java21(),
      args: ['-Xms3g', '-Xmx3g', '-XX:+UseParallelGC', `-Dlog4j2.configurationFile=${logging}`, '-cp', join(jars.jars, '*'), 'org.apache.kafka.connect.cli.ConnectStandalone', worker, connector], // prettier-ignore
    });
    const debezium = new Debezium(server, url, master);
    try {
      await debezium.#streaming(true);
      return debezium;
    } catch (cause) {
      await debezium[Symbol.asyncDispose]();
      throw cause;
    }
  }

  get pid(): number {
    return this.#server.identity.pid;
  }

  /** MiB, at its highest. */
  get memory(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)![1]) / 1024;
  }

  /** What is written from now on waits in its slot. The worker goes on, as warm as it is. */
  async stop(): Promise<void> {
    await this.#ask('stop');
    await this.#streaming(false);
  }

  /** Does not wait until it streams: that is what is measured. */
  async resume(): Promise<void> {
    await this.#ask('resume');
  }

  async #ask(what: 'stop' | 'resume'): Promise<void> {
    const answer = await fetch(`${this.#url}/connectors/${name}/${what}`, { method: 'PUT' });
    if (!answer.ok) throw new Error(`Kafka Connect refused to ${what}: ${await answer.text()}`);
  }

  async #streaming(wanted: boolean): Promise<void> {
    const deadline = performance.now() + waitMsMax;
    for (;;) {
      const active = await withClient(this.#master.superUrl, async (client) => {
        const found = await client.query<{ active: boolean }>(
          `select active from pg_replication_slots where slot_name = '${name}'`,
        );
        return found.rows[0]?.active === true;
      });
      if (active === wanted) return;
      if (!this.#server.running() || performance.now() > deadline)
        throw new Error(`Debezium did not ${wanted ? 'start' : 'stop'}:\n${this.#server.log().slice(-4000)}`);
      await delay(100);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.end('SIGKILL', 10_000);
  }
}

function write(path: string, properties: Readonly<Record<string, string | number>>): string {
  const lines = Object.entries(properties).map(([key, value]) => `${key}=${value}\n`);
  writeFileSync(path, lines.join(''));
  return path;
}

function workerProperties({ brokers, folder }: DebeziumOptions, url: string) {
  const converter = 'org.apache.kafka.connect.json.JsonConverter';
  return {
    'bootstrap.servers': brokers.join(','),
    'key.converter': converter,
    'key.converter.schemas.enable': 'false',
    'value.converter': converter,
    'value.converter.schemas.enable': 'false',
    listeners: url,
    'offset.storage.file.filename': join(folder, 'offsets'),
    'offset.flush.interval.ms': 1000,
    'plugin.discovery': 'service_load',
    'producer.batch.size': 524_288,
    'producer.linger.ms': 0,
    'producer.compression.type': 'none',
  };
}

function connectorProperties({ master, tables }: DebeziumOptions) {
  const { hostname, port, username, password, pathname } = new URL(master.superUrl);
  return {
    name,
    'connector.class': 'io.debezium.connector.postgresql.PostgresConnector',
    'tasks.max': 1,
    'database.hostname': hostname,
    'database.port': port,
    'database.user': decodeURIComponent(username),
    'database.password': decodeURIComponent(password),
    'database.dbname': pathname.slice(1),
    'topic.prefix': name,
    'plugin.name': 'pgoutput',
    'slot.name': name,
    'publication.name': name,
    'publication.autocreate.mode': 'disabled',
    'table.include.list': tables.map((table) => `public.${table}`).join(','),
    'snapshot.mode': 'no_data',
    'max.batch.size': 2048,
    'max.queue.size': 8192,
    'poll.interval.ms': 1,
  };
}

const loggingProperties = {
  'appender.console.type': 'Console',
  'appender.console.name': 'console',
  'appender.console.layout.type': 'PatternLayout',
  'appender.console.layout.pattern': '%d %p %m (%c{1})%n',
  'rootLogger.level': 'warn',
  'rootLogger.appenderRef.console.ref': 'console',
};
