/**
 * A real Apache Kafka for tests: one process that is broker and controller (KRaft), on loopback ports, in a folder of its own.
 *
 * `sharedKafka` is one broker for the whole test run: tests make topics with unique names in it. `startKafka` is a broker for one
 * test, which may stop or kill it; it comes back on the same ports with the same data.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';
import { freePorts } from '../embedded/ports.os.ts';
import { run } from '../embedded/process.os.ts';
import { type GuardedServer, startGuarded } from './guarded-server.os.ts';
import { kafkaAvailable } from './kafka-jars.os.ts';
import { sharedInTestRun, testRunPid } from './test-run.os.ts';

const startMsMax = 60_000;
const stopMsMax = 30_000;
const heap = '-Xmx512m';
/** Any 16 bytes in URL-safe base64: one broker has no other cluster to be confused with. */
const clusterId = 'cGdxdW9ydW0tdGVzdC1pZA';
const portTaken = /Address already in use|BindException/;

export interface KafkaOptions {
  /** Small segments make old ones expire within a test. Kafka's own minimum is 1 MiB. */
  segmentBytes?: number;
  /** Rolls a segment after this time, however small it is. */
  segmentMs?: number;
  /** How often expired segments are looked for. Kafka's default is five minutes. */
  retentionCheckMs?: number;
  /** A further listener, for clients who reach it by a proxy: they are told to come back by the proxy's port. */
  through?: { readonly port: number; readonly advertisedPort: number };
  /** Listeners beside the plain one: protocol of Kafka (`SASL_SSL`) -> port. */
  listeners?: Readonly<Record<string, number>>;
  /** Users that log in by SCRAM, as kafka-storage takes them: `SCRAM-SHA-512=[name=a,password=b]`. */
  scram?: readonly string[];
  /** Further lines of server.properties; they win. */
  properties?: Readonly<Record<string, string>>;
}

export interface KafkaAddress {
  brokers: string[];
}

/** The broker of this test run, started by the first test that asks for it and ended with the run. */
export function sharedKafka(): Promise<KafkaAddress> {
  shared ??= sharedInTestRun<KafkaAddress>({
    name: 'kafka',
    startMsMax,
    start: async (folder) => {
      const broker = await launch({ folder, options: {}, watchedPid: testRunPid() });
      return { brokers: broker.brokers };
    },
    answers: ({ brokers }) => answers(brokers),
  });
  return shared;
}

let shared: Promise<KafkaAddress> | undefined;

/** A broker for the caller alone, which ends with this process at the latest. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaBroker> {
  const folder = mkdtempSync(join(tmpdir(), 'pgquorum-kafka-'));
  return launch({ folder, options, watchedPid: process.pid });
}

interface Launch {
  folder: string;
  options: KafkaOptions;
  watchedPid: number;
}

/** Between choosing a port and listening on it another process may take it; then others are chosen. */
async function launch({ folder, options, watchedPid }: Launch): Promise<KafkaBroker> {
  const availability = await kafkaAvailable();
  if (availability.kind === 'unavailable') throw new Error(availability.reason);
  for (let attempt = 1; ; attempt += 1) {
    const [port = 0, controllerPort = 0] = await freePorts(2);
    const storage = {
      folder,
      jars: availability.jars,
      properties: serverProperties({ folder, port, controllerPort, options }),
      scram: options.scram ?? [],
    };
    await format(storage);
    const broker = new KafkaBroker(storage, { port, watchedPid });
    try {
      await broker.start();
      return broker;
    } catch (error) {
      if (attempt === 3 || !portTaken.test((error as Error).message)) throw error;
    }
  }
}

export class KafkaBroker {
  readonly brokers: string[];
  readonly #storage: Storage;
  readonly #folder: string;
  readonly #watchedPid: number;
  #process: GuardedServer | undefined;

  constructor(storage: Storage, { port, watchedPid }: { port: number; watchedPid: number }) {
    this.#storage = storage;
    this.#folder = storage.folder;
    this.#watchedPid = watchedPid;
    this.brokers = [`127.0.0.1:${port}`];
  }

  /** Starts it (again), with what it had stored, and waits until it answers. */
  async start(): Promise<void> {
    if (this.#process?.running() === true) throw new Error('this broker is running already');
    const loggingOption = `-Dlog4j2.configurationFile=${join(this.#folder, 'log4j2.properties')}`;
    this.#process = await startGuarded({
      folder: this.#folder,
      command: 'java',
      args: [
        heap,
        '-Djava.awt.headless=true',
        loggingOption,
        '-cp',
        join(this.#storage.jars, '*'),
        'kafka.Kafka',
        join(this.#folder, 'server.properties'),
      ],
      watchedPid: this.#watchedPid,
    });
    await this.#waitUntilReady(this.#process);
  }

  /** An orderly shutdown: logs are flushed and closed. */
  async stop(): Promise<void> {
    const stopped = await this.#process?.end('SIGTERM', stopMsMax);
    if (stopped === false) throw new Error(`the broker did not stop within ${stopMsMax} ms:\n${this.log()}`);
  }

  /** What a crash leaves behind. */
  async kill9(): Promise<void> {
    await this.#process?.end('SIGKILL', stopMsMax);
  }

  /** A broker that has lost its disk: when it is started again it knows of no topic. It has to have been ended before. */
  async loseData(): Promise<void> {
    if (this.#process?.running() === true) throw new Error('this broker is running');
    await format(this.#storage);
  }

  log(): string {
    return readFileSync(join(this.#folder, 'log'), 'utf8');
  }

  /** Ends it and removes its data: nobody reads them any more, so they need no orderly shutdown. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill9();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #waitUntilReady(server: GuardedServer): Promise<void> {
    const deadline = Date.now() + startMsMax;
    while (!(await answers(this.brokers))) {
      if (!server.running()) throw new Error(`the broker ended while starting:\n${this.log()}`);
      if (Date.now() > deadline) {
        await this.kill9();
        throw new Error(`the broker did not answer within ${startMsMax} ms:\n${this.log()}`);
      }
      await delay(100);
    }
  }
}

/** Whether a client can be served: the broker is registered with its controller. */
async function answers(brokers: string[]): Promise<boolean> {
  const admin = new Kafka({
    brokers,
    logLevel: logLevel.NOTHING,
    connectionTimeout: 2_000,
    retry: { retries: 0 },
  }).admin();
  try {
    await admin.connect();
    return (await admin.describeCluster()).brokers.length === 1;
  } catch {
    // Not yet, or no longer: the caller decides how long to ask, and shows the broker's log when it gives up.
    return false;
  } finally {
    await admin.disconnect();
  }
}

interface Storage {
  readonly folder: string;
  readonly jars: string;
  readonly properties: string;
  readonly scram: readonly string[];
}

async function format({ folder, jars, properties, scram }: Storage): Promise<void> {
  rmSync(join(folder, 'data'), { recursive: true, force: true });
  rmSync(join(folder, 'log'), { force: true });
  mkdirSync(folder, { recursive: true });
  const config = join(folder, 'server.properties');
  writeFileSync(config, properties);
  writeFileSync(join(folder, 'log4j2.properties'), logging);
  const tool = [
    '-cp',
    join(jars, '*'),
    'kafka.tools.StorageTool',
    'format',
    '-t',
    clusterId,
    '-c',
    config,
    ...scram.flatMap((user) => ['--add-scram', user]),
  ];
  const { code, stdout, stderr } = await run('java', [
    '-XX:TieredStopAtLevel=1',
    '-XX:+UseSerialGC',
    ...tool,
  ]);
  if (code !== 0) throw new Error(`the broker's storage could not be formatted: ${stderr}${stdout}`);
}

const logging = `
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %m (%c{1})%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
`;

interface PropertiesInput {
  folder: string;
  port: number;
  controllerPort: number;
  options: KafkaOptions;
}

/** One broker has nobody to replicate to, so every internal topic has one replica; buffers are small to fit the heap. */
function serverProperties({ folder, port, controllerPort, options }: PropertiesInput): string {
  const { through, listeners = {} } = options;
  const listen = (at: (name: string) => number): string[] =>
    ['PLAINTEXT', ...Object.keys(listeners), ...(through === undefined ? [] : ['THROUGH'])].map(
      (name) => `${name}://127.0.0.1:${at(name)}`,
    );
  const portOf = (name: string): number => listeners[name] ?? (name === 'PLAINTEXT' ? port : through!.port);
  const advertised = listen((name) => (name === 'THROUGH' ? through!.advertisedPort : portOf(name)));
  const properties: Record<string, string | number> = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    listeners: [...listen(portOf), `CONTROLLER://127.0.0.1:${controllerPort}`].join(','),
    'advertised.listeners': advertised.join(','),
    'controller.listener.names': 'CONTROLLER',
    'listener.security.protocol.map': [
      'PLAINTEXT:PLAINTEXT',
      'CONTROLLER:PLAINTEXT',
      'THROUGH:PLAINTEXT',
      ...Object.keys(listeners).map((name) => `${name}:${name}`),
    ].join(','),
    'log.dirs': join(folder, 'data'),
    'auto.create.topics.enable': 'false',
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 4,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'transaction.state.log.num.partitions': 4,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    'group.initial.rebalance.delay.ms': 0,
    // A killed broker is let in again only once its old session has ended: 9 s by default.
    'broker.session.timeout.ms': 3_000,
    'broker.heartbeat.interval.ms': 500,
    'log.cleaner.dedupe.buffer.size': 4 * 1024 * 1024,
    // Compaction looks for work at once instead of every 15 s.
    'log.cleaner.backoff.ms': 200,
    ...(options.segmentBytes === undefined ? {} : { 'log.segment.bytes': options.segmentBytes }),
    ...(options.segmentMs === undefined ? {} : { 'log.roll.ms': options.segmentMs }),
    ...(options.retentionCheckMs === undefined
      ? {}
      : { 'log.retention.check.interval.ms': options.retentionCheckMs }),
    ...options.properties,
  };
  return Object.entries(properties)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');
}
