/** A gateway as users run it, a process of its own, and clients that keep their connections. */
import { mkdtempSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { projectRoot } from '#core/config/project-root.files.ts';
import { freePorts } from '#core/embedded/ports.os.ts';
import { startGuarded, type GuardedServer } from '#core/testing/guarded-server.os.ts';
import type { Masters } from '#core/testing/masters.pg.ts';
import { addresses, clusterName } from './masters.ts';

const readyWithinMs = 30_000;

export class GatewayProcess implements AsyncDisposable {
  readonly #server: GuardedServer;
  readonly #port: number;
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

  private constructor(server: GuardedServer, port: number) {
    this.#server = server;
    this.#port = port;
  }

  /** BENCH_PROFILE names a folder for a CPU profile of the process. */
  static async start(
    masters: Masters,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<GatewayProcess> {
    const profile = process.env['BENCH_PROFILE'];
    const [port] = (await freePorts(1)) as [number];
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('PGQUORUM_')),
    );
    const server = await startGuarded({
      folder: mkdtempSync(join(masters.folder, 'gateway-')),
      command: process.execPath,
      args: [
        ...(profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`]),
        join(projectRoot, 'dist/apps/gateway/src/main.js'),
      ],
      env: {
        ...env,
        PGQUORUM_NODES: JSON.stringify(addresses(masters.nodes)),
        PGQUORUM_CLUSTER: clusterName,
        PGQUORUM_HTTP_PORT: String(port),
        PGQUORUM_GRPC_PORT: '0',
        PGQUORUM_LOG_LEVEL: 'warn',
        ...settings,
      },
    });
    const gateway = new GatewayProcess(server, port);
    await gateway.#ready();
    return gateway;
  }

  async #ready(): Promise<void> {
    const deadline = Date.now() + readyWithinMs;
    while ((await this.send('GET', '/healthz').catch(() => 0)) !== 200) {
      if (Date.now() > deadline) throw new Error(`the gateway does not answer:\n${this.#server.log()}`);
      await sleep(50);
    }
  }

  /** The status of the answer, when all of it is here. */
  send(method: string, path: string, body?: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const headers =
        body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const request = http.request(
        { port: this.#port, host: '127.0.0.1', method, path, headers, agent: this.#agent },
        (answer) => {
          answer.resume();
          answer.once('end', () => resolve(answer.statusCode!));
          answer.once('error', reject);
        },
      );
      request.once('error', reject);
      request.end(body);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agent.destroy();
    if (!(await this.#server.end('SIGTERM', 15_000))) await this.#server.end('SIGKILL', 5000);
    const complaints = this.#server.log().trim();
    if (complaints !== '') process.stderr.write(`${complaints}\n`);
  }
}
