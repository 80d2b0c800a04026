/** With PGQUORUM_METRICS_PORT set: /healthz, /readyz and /metrics of this process. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  Inject,
  Injectable,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { REPLICATION, type Replication } from './tokens.ts';
import { WatchRunner } from './watch.runner.ts';

@Injectable()
export class StatusServer implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #replication: Replication;
  #server: Server | null = null;

  readonly #watch: WatchRunner;

  constructor(@Inject(REPLICATION) replication: Replication, @Inject(WatchRunner) watch: WatchRunner) {
    this.#replication = replication;
    this.#watch = watch;
  }

  async onApplicationBootstrap(): Promise<void> {
    const { settings, logger } = this.#replication;
    if (settings.metricsPort === undefined) return;
    const server = createServer((request, response) => void this.#answer(request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(settings.metricsPort, settings.host, resolve);
    });
    this.#server = server;
    logger.info({ port: (server.address() as AddressInfo).port }, 'metrics are served');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '/').split('?')[0];
    if (path === '/metrics') {
      const { registry } = this.#replication.metrics;
      response.writeHead(200, { 'content-type': registry.contentType }).end(await registry.metrics());
    } else if (path === '/healthz')
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"ok"}');
    else if (path === '/readyz') await this.#ready(response);
    else response.writeHead(404).end();
  }

  /** Ready while every loop runs (one that waits to be started again does not), no edge is being mended, and every edge into a served node moves: a loop can run and get nowhere. */
  async #ready(response: ServerResponse): Promise<void> {
    const running = await this.#replication.metrics.running.get();
    const waiting = running.values.filter((one) => one.value !== 1).map((one) => one.labels.loop);
    const resyncs = (await this.#replication.metrics.resyncing.get()).values
      .filter((one) => one.value === 1)
      .map(({ labels }) => `${labels.origin} to ${labels.target}`);
    const stuck = await this.#watch.stuck();
    const ready = [waiting, resyncs, stuck].every((reasons) => reasons.length === 0);
    response
      .writeHead(ready ? 200 : 503, { 'content-type': 'application/json' })
      .end(JSON.stringify({ status: ready ? 'ok' : 'not ready', waiting, resyncs, stuck }));
  }

  async beforeApplicationShutdown(): Promise<void> {
    const server = this.#server;
    if (server !== null) await new Promise((resolve) => server.close(resolve));
  }
}
