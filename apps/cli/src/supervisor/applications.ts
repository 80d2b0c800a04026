/** Gateway and replicators: one replicator process a node, so that one that dies takes one node's replication with it and no more. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { projectRoot } from '#core/config/project-root.files.ts';
import type { NodeAddress, Settings } from '#core/config/settings.ts';
import type { DataFolder } from '#core/embedded/data-folder.os.ts';
import { portOr } from '#core/embedded/ports.os.ts';
import { PgquorumError } from '#core/errors/error.ts';
import { settingsAsEnvironment } from '../settings.ts';
import { SupervisedChild } from './child.ts';
import { askReady } from './probe.process.ts';

const drainMs = 15_000;
const probeEveryMs = 50;
/** While it is not ready, the reason is told this often. */
const tellEveryMs = 10_000;
/** A gateway that fails this often before it was ever ready will not get well by itself. */
const failuresMax = 5;

export interface ApplicationsOptions {
  readonly settings: Settings;
  readonly folder: DataFolder;
  /** What the settings name: those that were added are found by them. */
  readonly listed: readonly NodeAddress[];
  /** Those that there are. */
  readonly nodes: readonly { readonly name: string }[];
  readonly say: (line: string) => void;
  /** The processes that run now. */
  readonly onChange: (pids: readonly number[]) => void;
}

export class Applications {
  readonly #options: ApplicationsOptions;
  readonly #gateway: SupervisedChild;
  /** By node. */
  readonly #replicators = new Map<string, SupervisedChild>();
  #stopping = false;
  #ports = { http: 0, grpc: 0 };
  #wasReady = false;

  constructor(options: ApplicationsOptions) {
    this.#options = options;
    this.#gateway = this.#child('gateway', 'gateway', () => this.#gatewayEnvironment());
    for (const { name } of options.nodes) this.#replicators.set(name, this.#replicator(name));
  }

  #replicator(name: string): SupervisedChild {
    return this.#child(`replicator-${name}`, 'replicator', () =>
      this.#environment({ PGQUORUM_REPLICATOR_NODES: name }),
    );
  }

  get #children(): SupervisedChild[] {
    return [this.#gateway, ...this.#replicators.values()];
  }

  /** The nodes are these from now on: each has a replicator. Those that came are found by what the other nodes know of them. */
  async follow(names: readonly string[]): Promise<void> {
    if (this.#stopping) return;
    const gone = [...this.#replicators].filter(([name]) => !names.includes(name));
    const fresh = names.filter((name) => !this.#replicators.has(name));
    for (const [name] of gone) this.#replicators.delete(name);
    for (const name of fresh) this.#replicators.set(name, this.#replicator(name));
    await Promise.all([
      ...fresh.map((name) => this.#replicators.get(name)!.start()),
      stopEach(gone.map(([, child]) => child)),
    ]);
  }

  get addresses(): { http: string; grpc: string } {
    const { settings } = this.#options;
    const host = reachable(settings.host);
    const scheme = settings.tlsCertFile === undefined ? 'http' : 'https';
    return { http: `${scheme}://${host}:${this.#ports.http}`, grpc: `${host}:${this.#ports.grpc}` };
  }

  async start(): Promise<void> {
    await Promise.all(this.#children.map((child) => child.start()));
  }

  /** Until a write would succeed, or the signal. */
  async waitUntilReady(signal: AbortSignal): Promise<void> {
    let toldAt = performance.now();
    while (!signal.aborted) {
      const reason = await this.#probe();
      if (reason === undefined) {
        this.#wasReady = true;
        return;
      }
      const hopeless = this.#children.find((child) => child.failures >= failuresMax);
      if (hopeless !== undefined)
        throw new PgquorumError(
          'embedded_failed',
          `${hopeless.name} ended ${failuresMax} times: ${hopeless.lastWords}`,
        );
      if (performance.now() - toldAt > tellEveryMs) {
        this.#options.say(`not ready yet: ${reason}`);
        toldAt = performance.now();
      }
      await delay(probeEveryMs, undefined, { signal }).catch(() => undefined); // the signal ends the wait
    }
  }

  /** The gateway first, so that nothing new comes in while the replicators send out the rest. Answers the names of those that had to be killed. */
  async stop(): Promise<string[]> {
    this.#stopping = true;
    const gateway = await stopEach([this.#gateway]);
    return [...gateway, ...(await stopEach([...this.#replicators.values()]))];
  }

  #child(
    name: string,
    app: string,
    environment: () => NodeJS.ProcessEnv | Promise<NodeJS.ProcessEnv>,
  ): SupervisedChild {
    const { folder, say, onChange } = this.#options;
    return new SupervisedChild({
      name,
      entry: join(projectRoot, 'dist/apps', app, 'src/main.js'),
      environment,
      logFile: join(folder.logs, `${name}.log`),
      say,
      onChange: () => onChange(this.#children.map((child) => child.pid).filter((pid) => pid !== undefined)),
    });
  }

  #environment(own: Record<string, string>): NodeJS.ProcessEnv {
    const { settings, listed, folder } = this.#options;
    return {
      ...process.env,
      ...settingsAsEnvironment({ ...settings, nodes: [...listed] }),
      PGQUORUM_DATA_DIR: folder.root,
      ...own,
    };
  }

  /** Ports are chosen until the gateway was ready once; then people know them, and a new start has to take the same. */
  async #gatewayEnvironment(): Promise<NodeJS.ProcessEnv> {
    if (!this.#wasReady) {
      const { settings, say } = this.#options;
      const http = await portOr(settings.httpPort, settings.host);
      let grpc = await portOr(settings.grpcPort, settings.host);
      while (grpc === http) grpc = await portOr(0, settings.host);
      if (settings.httpPort !== 0 && http !== settings.httpPort)
        say(`port ${settings.httpPort} is taken: HTTP is at ${http}`);
      if (settings.grpcPort !== 0 && grpc !== settings.grpcPort)
        say(`port ${settings.grpcPort} is taken: gRPC is at ${grpc}`);
      this.#ports = { http, grpc };
    }
    return this.#environment({
      PGQUORUM_HTTP_PORT: String(this.#ports.http),
      PGQUORUM_GRPC_PORT: String(this.#ports.grpc),
    });
  }

  /** undefined when ready, else why not. */
  async #probe(): Promise<string | undefined> {
    if (this.#gateway.pid === undefined) return 'the gateway is not running';
    try {
      const { status, body } = await askReady(this.addresses.http);
      return status === 200 ? undefined : detailOf(body);
    } catch (cause) {
      const { cause: inner, message } = cause as Error;
      return `the gateway does not answer (${inner instanceof Error ? inner.message : message})`;
    }
  }
}

async function stopEach(children: readonly SupervisedChild[]): Promise<string[]> {
  const stopped = await Promise.all(
    children.map(async (child) => ((await child.stop(drainMs)) ? undefined : child.name)),
  );
  return stopped.filter((name) => name !== undefined);
}

function detailOf(body: string): string {
  try {
    const { detail } = JSON.parse(body) as { detail?: unknown };
    return typeof detail === 'string' ? detail : body;
  } catch {
    return body;
  }
}

/** An address that listens everywhere is reached at the loopback one. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}
