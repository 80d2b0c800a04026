/**
 * The services of docker-compose.yml as running containers: same images, settings, health checks and order, on a network of their own.
 * What a killed test leaves is removed by a guard of ours, so that testcontainers' own (an image that not every machine can get) stays off.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Readable } from 'node:stream';
import {
  GenericContainer,
  Network,
  Wait,
  type StartedNetwork,
  type StartedTestContainer,
} from 'testcontainers';
import { projectRoot } from '#core/config/project-root.files.ts';
import { run } from '#core/embedded/process.os.ts';
import { dockerProblem, projectImage, testImage } from '#core/testing/docker-images.os.ts';
import { testRunPid } from '#core/testing/test-run.os.ts';
import {
  durationMs,
  readCompose,
  startOrder,
  type ComposeFile,
  type ComposeService,
} from './compose-file.ts';

process.env['TESTCONTAINERS_RYUK_DISABLED'] ??= 'true';

const startMsMax = 180_000;
const label = 'pgquorum-test';
const gigabyte = 1024 ** 3;

/** Why the container tests do not run here, or undefined when they do. */
export async function containersSkipped(): Promise<string | undefined> {
  const skipped = (process.env['PGQUORUM_TEST_SKIP'] ?? '').split(/[\s,]+/);
  return skipped.includes('containers') ? 'PGQUORUM_TEST_SKIP names them' : dockerProblem();
}

export class ComposeCluster implements AsyncDisposable {
  readonly apiKey = randomBytes(16).toString('hex');
  readonly #id = randomBytes(6).toString('hex');
  readonly #containers = new Map<string, StartedTestContainer>();
  readonly #logs = new Map<string, string[]>();
  #network: StartedNetwork | undefined;
  #file: ComposeFile | undefined;

  /** Resolves when all services, or those that are named and what they wait for, are healthy. */
  static async start(only?: readonly string[]): Promise<ComposeCluster> {
    const cluster = new ComposeCluster();
    try {
      const file = await composeFile(cluster.apiKey, only);
      await cluster.#startAll(file, startOrder(file, only));
      return cluster;
    } catch (cause) {
      await cluster[Symbol.asyncDispose]();
      throw cause;
    }
  }

  /** The names of the services whose names begin like this. */
  names(prefix: string): string[] {
    return [...this.#containers.keys()].filter((name) => name.startsWith(prefix));
  }

  get url(): string {
    return `http://127.0.0.1:${this.#container('gateway').getMappedPort(8080)}`;
  }

  /** Rows of a query in the database of a master, asked inside its container: that works without a network too. */
  async sql<Row>(master: string, query: string): Promise<Row[]> {
    const text = `select coalesce(json_agg(row), '[]') from (${query}) row`;
    return JSON.parse(await this.#psql(master, text)) as Row[];
  }

  /** A statement in the database of a master, as any SQL client would send it. */
  async execute(master: string, statement: string): Promise<void> {
    await this.#psql(master, statement);
  }

  /** Whether one master's network lets it connect to another one. */
  async reaches(from: string, to: string): Promise<boolean> {
    const { exitCode } = await this.#container(from).exec(['pg_isready', `--host=${to}`, '--timeout=2']);
    return exitCode === 0;
  }

  /** What the service's health check says now; Docker itself asks it less often and forgives some failures. */
  async isHealthy(name: string): Promise<boolean> {
    const [, ...command] = this.#file?.services[name]?.healthcheck.test ?? [];
    return (await this.#container(name).exec(command)).exitCode === 0;
  }

  /** Takes a service off the network: its peers' packets to it get lost, as when a cable is pulled. */
  async cut(name: string): Promise<void> {
    await must(['network', 'disconnect', this.#networkId(), this.#container(name).getId()]);
  }

  async rejoin(name: string): Promise<void> {
    await must(['network', 'connect', '--alias', name, this.#networkId(), this.#container(name).getId()]);
  }

  /** Stops a service as compose would, and answers its exit code. */
  async stop(name: string): Promise<number> {
    const id = this.#container(name).getId();
    await must(['stop', '--time', '30', id]);
    return Number(await must(['inspect', '--format', '{{.State.ExitCode}}', id]));
  }

  async startAgain(name: string): Promise<void> {
    await must(['start', this.#container(name).getId()]);
  }

  /** The last lines of each service, for a test that failed. */
  logs(): string {
    return [...this.#logs].map(([name, lines]) => `--- ${name}\n${lines.slice(-40).join('')}`).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeAll(this.#id);
    this.#containers.clear();
    await this.#network?.stop();
  }

  async #startAll(file: ComposeFile, order: readonly string[]): Promise<void> {
    this.#file = file;
    this.#network = await new Network().start();
    guard(this.#id, this.#network.getId());
    const starting = new Map<string, Promise<void>>();
    for (const name of order) {
      const service = file.services[name];
      if (service === undefined) continue;
      const needs = Object.keys(service.depends_on).flatMap((needed) => starting.get(needed) ?? []);
      starting.set(
        name,
        Promise.all(needs).then(() => this.#startOne(name, service)),
      );
    }
    const outcomes = await Promise.allSettled(starting.values());
    const failure = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failure !== undefined) throw failure.reason;
  }

  async #startOne(name: string, service: ComposeService): Promise<void> {
    const lines: string[] = [];
    this.#logs.set(name, lines);
    const container = new ComposeContainer(service)
      .withLabels({ [label]: this.#id })
      .withNetwork(this.#started())
      .withNetworkAliases(name)
      .withLogConsumer((stream: Readable) =>
        stream.on('data', (chunk: Buffer) => lines.push(chunk.toString())),
      );
    try {
      this.#containers.set(name, await container.start());
    } catch (cause) {
      throw new Error(
        `${name} did not become healthy: ${(cause as Error).message}\n${lines.slice(-60).join('')}`,
        { cause },
      );
    }
  }

  async #psql(master: string, text: string): Promise<string> {
    const options = [
      '--username=pgquorum',
      '--dbname=pgquorum',
      '--no-psqlrc',
      '--no-align',
      '--tuples-only',
      '--set=ON_ERROR_STOP=1',
    ];
    const { exitCode, stdout, stderr } = await this.#container(master).exec([
      'psql',
      ...options,
      `--command=${text}`,
    ]);
    if (exitCode !== 0) throw new Error(`psql on ${master}: ${stderr}`);
    return stdout;
  }

  #started(): StartedNetwork {
    if (this.#network === undefined) throw new Error('the network is not there');
    return this.#network;
  }

  #networkId(): string {
    return this.#started().getId();
  }

  #container(name: string): StartedTestContainer {
    const container = this.#containers.get(name);
    if (container === undefined) throw new Error(`the service ${name} is not running`);
    return container;
  }
}

/** The project's image takes a minute to make: only for those who start it. */
async function composeFile(apiKey: string, only: readonly string[] | undefined): Promise<ComposeFile> {
  const variables = {
    PGQUORUM_API_KEYS: apiKey,
    PGQUORUM_PG_IMAGE: await testImage('postgres'),
    KAFKA_IMAGE: await testImage('kafka'),
  };
  const file = readCompose(variables);
  const isBuilt = startOrder(file, only).some((name) => file.services[name]?.build !== undefined);
  return isBuilt ? readCompose({ ...variables, APP_IMAGE: await projectImage() }) : file;
}

/** A service's keys in testcontainers' words. Named volumes are left to the image, whose anonymous ones go with the container. */
class ComposeContainer extends GenericContainer {
  constructor(service: ComposeService) {
    super(service.image);
    const { interval, timeout, retries, start_period: startPeriod, test } = service.healthcheck;
    this.withEnvironment(service.environment)
      .withHealthCheck({
        test: test as ['CMD', string, ...string[]],
        interval: durationMs(interval),
        timeout: durationMs(timeout),
        retries,
        startPeriod: durationMs(startPeriod),
      })
      .withWaitStrategy(Wait.forHealthCheck())
      .withStartupTimeout(startMsMax);
    if (service.command !== undefined) this.withCommand(service.command);
    if (service.ports.length > 0)
      this.withExposedPorts(...service.ports.map((port) => Number(port.split(':').at(-1))));
    if (service.cap_drop.length > 0) this.withDroppedCapabilities(...service.cap_drop);
    if (service.security_opt.length > 0) this.withSecurityOpt(...service.security_opt);
    if (service.shm_size !== undefined)
      this.withSharedMemorySize(Number.parseInt(service.shm_size, 10) * gigabyte);
    const files = service.volumes
      .filter((volume) => volume.startsWith('./'))
      .map((volume) => volume.split(':'));
    this.withCopyFilesToContainer(
      files.map(([source = '', target = '']) => ({ source: join(projectRoot, source), target, mode: 0o644 })),
    );
    this.hostConfig.RestartPolicy = { Name: service.restart };
    if (service.init === true) this.hostConfig.Init = true;
  }
}

/** Removes the containers and the network once the test run is over, however it ended. */
function guard(id: string, network: string): void {
  const script = `
while kill -0 "$1" 2>/dev/null; do sleep 1; done
left=$(docker ps --all --quiet --filter "label=${label}=$2")
[ -z "$left" ] || docker rm --force --volumes $left
docker network rm "$3"`;
  spawn('sh', ['-c', script, 'guard', String(testRunPid()), id, network], {
    detached: true,
    stdio: 'ignore',
  }).unref();
}

async function removeAll(id: string): Promise<void> {
  const containers = (await must(['ps', '--all', '--quiet', '--filter', `label=${label}=${id}`]))
    .split('\n')
    .filter(Boolean);
  if (containers.length > 0) await must(['rm', '--force', '--volumes', ...containers]);
}

async function must(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run('docker', args);
  if (code !== 0) throw new Error(`docker ${args.join(' ')}: ${stderr.trim()}`);
  return stdout.trim();
}
