import { Controller, Get, Inject, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { PgquorumError } from '#core/errors/error.ts';
import { StatusBoard } from '#core/topology/status.pg.ts';
import { openApiDocument } from '../contract/document.ts';
import { Dashboard } from '../dashboard/dashboard.files.ts';
import { GatewayMetrics } from '../metrics.ts';
import { ConflictOperations } from '../operations/conflicts.ts';
import { ClusterOperations } from '../operations/cluster.ts';

@Controller()
export class OperatingController {
  readonly #board: StatusBoard;
  readonly #metrics: GatewayMetrics;
  readonly #dashboard: Dashboard;
  readonly #cluster: ClusterOperations;
  readonly #conflicts: ConflictOperations;
  #document: object | undefined;

  constructor(
    @Inject(StatusBoard) board: StatusBoard,
    @Inject(GatewayMetrics) metrics: GatewayMetrics,
    @Inject(Dashboard) dashboard: Dashboard,
    @Inject(ClusterOperations) cluster: ClusterOperations,
    @Inject(ConflictOperations) conflicts: ConflictOperations,
  ) {
    this.#board = board;
    this.#metrics = metrics;
    this.#dashboard = dashboard;
    this.#cluster = cluster;
    this.#conflicts = conflicts;
  }

  /** The process answers. */
  @Get('healthz')
  healthz(): object {
    return { status: 'ok' };
  }

  /** Writes are taken, and what is written moves to the other nodes. */
  @Get('readyz')
  async readyz(): Promise<object> {
    const { notReady, health } = await this.#board.readiness();
    if (notReady.length > 0)
      throw new PgquorumError('not_ready', notReady.join('; '), { extra: { reasons: notReady } });
    return { status: 'ready', problems: health.problems };
  }

  @Get('metrics')
  async metrics(@Res({ passthrough: true }) reply: FastifyReply): Promise<string> {
    reply.header('content-type', this.#metrics.registry.contentType);
    return this.#metrics.text();
  }

  /** All that the page shows, in one answer. */
  @Get('v1/overview')
  async overview(): Promise<object> {
    const [nodes, lag, health, conflicts] = await Promise.all([
      this.#cluster.nodes(),
      this.#cluster.lag(),
      this.#cluster.health(),
      this.#conflicts.list({ state: 'open', limit: 10 }),
    ]);
    return {
      at: new Date().toISOString(),
      health,
      nodes,
      lag,
      conflicts: conflicts.items.map(({ id, collection, key, kind, foundAt }) => ({
        id,
        collection,
        key,
        kind,
        foundAt,
      })),
      written: this.#metrics.written,
    };
  }

  /** What all routes take and give. */
  @Get('openapi.json')
  document(): object {
    return (this.#document ??= openApiDocument());
  }

  @Get()
  page(@Res({ passthrough: true }) reply: FastifyReply): string {
    reply.headers(this.#dashboard.headers);
    return this.#dashboard.html;
  }
}
